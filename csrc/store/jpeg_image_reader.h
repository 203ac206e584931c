// Reads images from JPEG rows.
#pragma once

#include <vector>

#include "codec/decode.h"
#include "store/decoded_box.h"
#include "store/image_reader.h"

namespace lds {

// Pixels equal those of Pillow's Image.open, transpose by the row's orientation, convert and crop. With
// ReadSpec::scaled, those of a resized box come close to Pillow's.
class JpegImageReader : public ImageReader {
 public:
  explicit JpegImageReader(const ReadSpec& spec);

  ImageSize open(const Extent& row) override;
  void hold(const std::vector<BoxRequest>& requests) override;
  ConstImageView read(const IntBox& box) override;
  void resize(const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer, const ImageView& out) override;

 private:
  int scale_for(const BoxRequest& request) const noexcept;
  void set_scale(int scale);
  IntBox shifted(const IntBox& box) const noexcept;
  IntBox around(const IntBox& box) const noexcept;
  ResizeSpec at_scale(const IntBox& box, const ResizeSpec& spec) const noexcept;

  const int channels_;
  const bool scaled_;
  DecodeOptions options_;
  Decoder decoder_;
  ImageSize size_;
  int orientation_ = 1;
  int scale_ = 1;          // by which the decoder makes the image smaller
  ImageSize scaled_size_;  // of that image
  DecodedBox pixels_;      // of the smaller image
  bool holds_ = false;
};

}  // namespace lds
