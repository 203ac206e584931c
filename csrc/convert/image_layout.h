// Describes how an image is laid out in memory.
#pragma once

#include <cstdint>

#include "common/image_view.h"
#include "convert/pixel_type.h"

namespace lds {

constexpr int kMaxChannels = 32;

struct ImageLayout {
  int channels = 3;
  ImageSize size;
  bool planar = true;  // CHW, else HWC
  PixelType type = PixelType::uint8;

  int64_t bytes() const noexcept { return int64_t{channels} * size.height * size.width * pixel_bytes(type); }

  template <class Byte>
  BasicImageView<Byte> view(Byte* data) const noexcept {
    auto view = planar ? BasicImageView<Byte>::chw(data, size.height, size.width, channels)
                       : BasicImageView<Byte>::hwc(data, size.height, size.width, channels);
    const auto bytes = static_cast<ptrdiff_t>(pixel_bytes(type));
    view.row_stride *= bytes;
    view.pixel_stride *= bytes;
    view.channel_stride *= bytes;
    return view;
  }
};

// Error(Reason::value) for impossible channels or sizes.
void check(const ImageLayout& layout);

}  // namespace lds
