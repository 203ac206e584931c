// Reads masks from PNG rows.
#pragma once

#include <vector>

#include "codec/decode.h"
#include "store/decoded_box.h"
#include "store/image_reader.h"

namespace lds {

// One channel of uint8 or uint16: the numbers in the file, which are indices of its palette or values of grey.
class MaskReader : public ImageReader {
 public:
  explicit MaskReader(const ReadSpec& spec);

  ImageSize open(const Extent& row) override;
  void hold(const std::vector<BoxRequest>& requests) override;
  ConstImageView read(const IntBox& box) override;
  void resize(const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer, const ImageView& out) override;

 private:
  DecodeOptions options_;
  Decoder decoder_;
  DecodedBox numbers_;
  bool holds_ = false;
};

}  // namespace lds
