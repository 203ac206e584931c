// Converts an image file in memory to a row of the store: decodes, orients, resizes and center-crops it.
#pragma once

#include <atomic>

#include "codec/decode.h"
#include "resize/resize.h"

namespace lds {

// (resize_h, resize_w): (0, 0) keeps the size; (s, 0) resizes the shorter side to s, like torchvision's Resize(s);
// (h, w) resizes to exactly that size. crop_h, crop_w: 0 keeps the size; else like torchvision's center_crop, which
// rounds half to even.
struct RowSpec {
  int resize_h = 256, resize_w = 0;
  int crop_h = 224, crop_w = 224;
  int out_h = 224, out_w = 224;  // size of the row; another size after resize and crop is Error(Reason::shape)
  bool planar = true;            // CHW, else HWC
  Filter filter = Filter::bilinear;
  bool antialias = true;
  bool scaled = false;  // decode JPEG at a reduced DCT scale, like Pillow's Image.draft
  DecodeOptions decode;
};

// The size to which an image is resized, and the part of the result that becomes the row.
struct RowGeometry {
  int width, height;
  IntBox part;
};

// The geometry for an image of width x height pixels. Ignores spec.out_h and spec.out_w. Error(Reason::shape) where the
// resized image is smaller than the crop.
RowGeometry row_geometry(const RowSpec& spec, int width, int height);

// The same; Error(Reason::shape) also where the result has another size than the row.
RowGeometry fitting_geometry(const RowSpec& spec, int width, int height);

// Error(Reason::value) for impossible sizes.
void check(const RowSpec& spec);

// How the resizer makes that of such an image.
ResizeSpec resize_spec(const RowSpec& spec, int width, int height, const RowGeometry& to);

struct RowResult {
  int width = 0, height = 0;  // of the source, after orientation
};

// Not thread-safe: use one per thread. Reuses its decoder, resizer and buffers.
class ImageToRow {
 public:
  explicit ImageToRow(const RowSpec& spec);  // Error(Reason::value) for an invalid spec

  // Writes out_h * out_w * channels bytes to `out`. After an Error, the contents of `out` are unspecified.
  RowResult convert(const uint8_t* data, size_t size, uint8_t* out);

  // Like convert(), for an image that is already decoded: interleaved pixels of spec.decode.channels channels.
  RowResult convert_pixels(const ConstImageView& pixels, uint8_t* out);

  // When `flag` becomes true, convert() stops within the image with Error(Reason::cancelled).
  void set_stop_flag(const std::atomic<bool>* flag) noexcept { stop_ = flag; }

  // For benchmarks: decodes the part of the image that convert() needs (or the whole image at full scale) with
  // libjpeg's own Huffman decoder, and discards the pixels. `out` is as large as for convert(); its contents are
  // unspecified afterwards.
  void decode_only(const uint8_t* data, size_t size, bool whole, uint8_t* out);

 private:
  void begin(int width, int height, const RowGeometry& to, uint8_t* out);

  RowSpec spec_;
  Decoder decoder_;
  StreamingResizer resizer_;
  const std::atomic<bool>* stop_ = nullptr;
};

}  // namespace lds
