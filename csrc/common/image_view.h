// Sizes, boxes, and non-owning views of pixels. Strides are in bytes; pixel values are uint8 unless stated otherwise.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lds {

struct ImageSize {
  int height = 0, width = 0;
  bool operator==(const ImageSize&) const = default;
};

// A half-open box of whole pixels: columns [x0, x1), rows [y0, y1).
struct IntBox {
  int x0 = 0, y0 = 0, x1 = 0, y1 = 0;
  int width() const noexcept { return x1 - x0; }
  int height() const noexcept { return y1 - y0; }
  ImageSize size() const noexcept { return {height(), width()}; }
  bool operator==(const IntBox&) const = default;
};

// An image of interleaved (pixel_stride == channels) or planar (pixel_stride == 1) channels.
template <class Byte>
struct BasicImageView {
  Byte* data = nullptr;
  int width = 0, height = 0, channels = 0;
  ptrdiff_t row_stride = 0, pixel_stride = 0, channel_stride = 0;

  static BasicImageView hwc(Byte* data, int height, int width, int channels) noexcept {
    return {data, width, height, channels, ptrdiff_t{width} * channels, channels, 1};
  }
  static BasicImageView chw(Byte* data, int height, int width, int channels) noexcept {
    return {data, width, height, channels, width, 1, ptrdiff_t{width} * height};
  }
  Byte* row(int y) const noexcept { return data + y * row_stride; }
  BasicImageView part(const IntBox& box) const noexcept {
    return {row(box.y0) + box.x0 * pixel_stride,
            box.width(),
            box.height(),
            channels,
            row_stride,
            pixel_stride,
            channel_stride};
  }
  operator BasicImageView<const Byte>() const noexcept {
    return {data, width, height, channels, row_stride, pixel_stride, channel_stride};
  }
};

using ImageView = BasicImageView<uint8_t>;
using ConstImageView = BasicImageView<const uint8_t>;

}  // namespace lds
