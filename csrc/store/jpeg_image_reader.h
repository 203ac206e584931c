// Reads images from JPEG rows.
#pragma once

#include <vector>

#include "codec/decode.h"
#include "store/image_reader.h"

namespace lds {

// Pixels equal those of Pillow's Image.open, transpose by the row's orientation, convert and crop. With
// ReadSpec::scaled, those of a resized box come close to Pillow's.
class JpegImageReader : public ImageReader {
 public:
  explicit JpegImageReader(const ReadSpec& spec);

  ImageSize open(const Extent& row) override;
  ConstImageView read(const IntBox& box) override;
  void resize(const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer, const ImageView& out) override;

 private:
  int scale_for(const IntBox& box, const ResizeSpec& spec) const noexcept;
  void resize_scaled(int scale, const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer,
                     const ImageView& out);

  const int channels_;
  const bool scaled_;
  DecodeOptions options_;
  Decoder decoder_;
  ImageSize size_;
  int orientation_ = 1;
  std::vector<uint8_t> pixels_;  // of the box that read() returned
};

}  // namespace lds
