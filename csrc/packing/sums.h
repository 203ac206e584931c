// Sums of uint8 pixels for the exact mean and standard deviation: whole numbers, so order and threads do not matter.
#pragma once

#include <array>
#include <cstdint>

namespace lds {

struct ChannelSums {
  uint64_t count = 0;  // values of each channel
  std::array<uint64_t, 4> total{}, squares{};

  // Adds an image of 1 to 4 channels with so many pixels, planar or interleaved.
  void add(const uint8_t* image, int64_t pixels, int channels, bool planar) noexcept;
  void add(const ChannelSums& other) noexcept;
};

}  // namespace lds
