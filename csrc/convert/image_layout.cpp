#include "convert/image_layout.h"

#include <string>

#include "common/error.h"

namespace lds {

void check(const ImageLayout& layout) {
  constexpr int kMaxSide = 1 << 24;  // small enough that bytes() can't overflow
  if (layout.channels < 1 || layout.channels > kMaxChannels) {
    throw Error(Reason::value, "expected 1 to " + std::to_string(kMaxChannels) + " channels, found " +
                                   std::to_string(layout.channels));
  }
  const auto [height, width] = layout.size;
  if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide) {
    throw Error(Reason::value, "expected images of 1x1 to " + std::to_string(kMaxSide) + "x" +
                                   std::to_string(kMaxSide) + ", found " + std::to_string(height) + "x" +
                                   std::to_string(width));
  }
}

}  // namespace lds
