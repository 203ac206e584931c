// Sums uint8 pixels for the exact mean and standard deviation. The sums are integers, so the result does not depend on
// the order of the images.
#pragma once

#include <array>
#include <cstdint>

namespace lds {

struct ChannelSums {
  uint64_t count = 0;  // number of values per channel
  std::array<uint64_t, 4> total{}, squares{};

  // Adds an image of 1 to 4 channels, planar or interleaved.
  void add(const uint8_t* image, int64_t pixels, int channels, bool planar) noexcept;
  void add(const ChannelSums& other) noexcept;
};

}  // namespace lds
