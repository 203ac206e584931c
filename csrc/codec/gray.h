// Converts RGB to gray with the arithmetic of Pillow's convert("L").
#pragma once

#include <cstdint>

namespace lds {

// ITU-R 601-2 luma in 16-bit fixed point, rounded.
inline uint8_t gray_of(uint32_t r, uint32_t g, uint32_t b) noexcept {
  return static_cast<uint8_t>((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16);
}

// `rgb` and `gray` may be the same row.
inline void rgb_row_to_gray(const uint8_t* rgb, uint8_t* gray, int width) noexcept {
  for (int x = 0; x < width; ++x, rgb += 3) gray[x] = gray_of(rgb[0], rgb[1], rgb[2]);
}

}  // namespace lds
