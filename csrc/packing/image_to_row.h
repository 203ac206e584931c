// One image file's bytes -> one row of the store: decode, orient, resize, centre crop.
#pragma once

#include <atomic>

#include "codec/decode.h"
#include "resize/resize.h"

namespace lds {

// resize_h/resize_w: (0, 0) keeps the size; (s, 0) makes the shorter side s, as torchvision's
// Resize(int); (h, w) is exact. crop_h/crop_w: 0 keeps the size, else torchvision's center_crop
// (round half to even).
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

// The size to which an image is resized, and the part of it that the row shows.
struct RowGeometry {
  int width, height;
  IntBox part;
};

// For an image of width x height pixels; spec.out_h and out_w do not matter. Error(Reason::shape) where the resized
// image is smaller than the crop.
RowGeometry row_geometry(const RowSpec& spec, int width, int height);

struct RowResult {
  int width = 0, height = 0;  // of the source, after orientation
};

// One per thread; keeps its decoder, resizer and buffers.
class ImageToRow {
 public:
  explicit ImageToRow(const RowSpec& spec);  // Error(Reason::value) for a spec that makes no sense

  // Writes out_h * out_w * channels bytes at `out`. On an Error, what `out` holds is unspecified.
  RowResult convert(const uint8_t* data, size_t size, uint8_t* out);

  // The same from pixels (interleaved, spec.decode.channels channels) that someone else decoded.
  RowResult convert_pixels(const ConstImageView& pixels, uint8_t* out);

  // While `flag` is set, an image is given up in its middle with Error(Reason::cancelled).
  void stop_when(const std::atomic<bool>* flag) noexcept { stop_ = flag; }

  // For benchmarks: decodes the part that convert() needs (or the whole image, unscaled) with libjpeg's own Huffman
  // reader, and drops the pixels. `out` as in convert(); what it holds afterwards is unspecified.
  void decode_only(const uint8_t* data, size_t size, bool whole, uint8_t* out);

 private:
  RowGeometry fitting_geometry(int width, int height) const;
  void begin(int width, int height, const RowGeometry& to, uint8_t* out);

  RowSpec spec_;
  Decoder decoder_;
  StreamingResizer resizer_;
  const std::atomic<bool>* stop_ = nullptr;
};

}  // namespace lds
