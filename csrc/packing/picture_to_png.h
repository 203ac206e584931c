// Converts the file of a mask in memory, or the values of another picture, to a PNG row, shrunk where it is too large.
// The file itself is not kept: without filters and interlacing, a row is decoded in half of the time.
#pragma once

#include <atomic>
#include <vector>

#include "codec/decode.h"
#include "codec/png_encode.h"
#include "packing/image_to_jpeg.h"
#include "packing/image_to_row.h"
#include "resize/float_resizer.h"
#include "resize/resize.h"

namespace lds {

// Not thread-safe: use one per thread.
class PictureToPng {
 public:
  // Of `row`, resize_h (the longest shorter side, 0 for any) and decode count. Error(Reason::value) for an invalid
  // spec.
  explicit PictureToPng(const RowSpec& row);

  // Appends the row to `out`. After an Error, what was appended is unspecified.
  JpegRow convert(const uint8_t* data, size_t size, std::vector<uint8_t>& out);

  // Like convert(), for interleaved numbers of row.decode.channels bytes.
  JpegRow convert_pixels(const ConstImageView& numbers, std::vector<uint8_t>& out);

  // Like convert(), for a picture of one channel of uint8 or uint16, which is resized by row.filter.
  JpegRow convert_values(const ConstImageView& values, PixelType type, std::vector<uint8_t>& out);

  // When `flag` becomes true, convert() stops within the mask with Error(Reason::cancelled).
  void set_stop_flag(const std::atomic<bool>* flag) noexcept { stop_ = flag; }

 private:
  void encode(const JpegRow& row, std::vector<uint8_t>& out);

  RowSpec row_;    // with Filter::nearest
  Filter filter_;  // of values
  Decoder decoder_;
  StreamingResizer resizer_;
  PngEncoder encoder_;
  FloatResizer float_resizer_;
  std::vector<uint8_t> numbers_;
  std::vector<float> resized_;
  const std::atomic<bool>* stop_ = nullptr;
};

}  // namespace lds
