// Holds the pixels of a box of an encoded image.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/decode.h"
#include "common/image_view.h"

namespace lds {

// The smallest box around both; an empty one does not count.
IntBox united(const IntBox& a, const IntBox& b) noexcept;
bool is_empty(const IntBox& box) noexcept;

class DecodedBox {
 public:
  // Pixels have interleaved channels of this many bytes each.
  explicit DecodedBox(int channels, int value_bytes = 1) : channels_(channels), value_bytes_(value_bytes) {}

  // Decodes a box of the image that the decoder has opened. It may be empty.
  void decode(Decoder& decoder, const IntBox& box);

  // The pixels of a box inside the decoded one. Valid until the next decode().
  ConstImageView view(const IntBox& box) const noexcept;

 private:
  int channels_, value_bytes_;
  IntBox box_;
  std::vector<uint8_t> pixels_;
};

}  // namespace lds
