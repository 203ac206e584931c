// One image file's bytes -> one row of the store: decode, orient, resize, centre crop.
#pragma once

#include <atomic>
#include <memory>

#include "codec/decode.h"
#include "resize/resize.h"

namespace lds {

// resize_h/resize_w: (0, 0) keeps the size; (s, 0) makes the shorter side s, as torchvision's
// Resize(int); (h, w) is exact. crop_h/crop_w: 0 keeps the size, else torchvision's center_crop
// (round half to even; zeros where the image is smaller).
struct RowSpec {
  int resize_h = 256, resize_w = 0;
  int crop_h = 224, crop_w = 224;
  int out_h = 224, out_w = 224;  // the row's size; an image that ends otherwise is Reason::shape
  bool planar = true;            // CHW rows, else HWC
  Filter filter = Filter::bilinear;
  bool antialias = true;
  bool scaled = false;  // decode="scaled": JPEG DCT scaling
  DecodeOptions decode;
};

// Height and width that an image of width x height pixels ends with; out_h and out_w don't matter.
struct RowSize {
  int height = 0, width = 0;
};
RowSize row_size(const RowSpec& spec, int width, int height);

struct RowResult {
  int width = 0, height = 0;  // of the source, after orientation
  Format format = Format::unknown;
};

// One per thread; keeps its decoder, resizer and buffers.
class ImageToRow {
 public:
  explicit ImageToRow(const RowSpec& spec);
  ~ImageToRow();

  // Writes out_h * out_w * channels bytes at `out`. On an Error, what `out` holds is unspecified.
  RowResult convert(const uint8_t* data, size_t size, uint8_t* out);

  // While `flag` is set, an image is given up in its middle with Error(Reason::cancelled).
  void stop_when(const std::atomic<bool>* flag) noexcept;

  // What convert() costs at least: decodes the same part (or the whole image, unscaled) and drops the rows. `out` as in
  // convert(), with nothing of use in it afterwards. For benchmarks.
  void decode_only(const uint8_t* data, size_t size, bool whole, uint8_t* out);

  // The same from pixels (interleaved, spec.decode.channels channels) that someone else decoded.
  RowResult convert_pixels(const ConstImageView& pixels, uint8_t* out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
