#include "packing/sums.h"

#include <algorithm>

namespace lds {
namespace {

// So many squares of a byte fit into 31 bits.
constexpr int64_t kBlock = 32768;

// Written so that the compiler vectorises it with multiply-adds of 16-bit lanes.
void add_plane(const uint8_t* values, int64_t n, uint64_t& total, uint64_t& squares) noexcept {
  for (int64_t low = 0; low < n; low += kBlock) {
    const int64_t high = std::min(n, low + kBlock);
    int32_t sum = 0;
    int32_t square = 0;
    for (int64_t i = low; i < high; ++i) {
      const int16_t value = values[i];
      sum += value;
      square += value * value;
    }
    total += static_cast<uint64_t>(sum);
    squares += static_cast<uint64_t>(square);
  }
}

// Has one lane for each byte of 16 pixels: lane i belongs to channel i % kChannels.
template <int kChannels>
void add_interleaved(const uint8_t* values, int64_t pixels, ChannelSums& sums) noexcept {
  constexpr int kLanes = 16 * kChannels;
  const int64_t steps = pixels / 16;
  for (int64_t low = 0; low < steps; low += kBlock) {
    uint32_t sum[kLanes] = {};
    uint32_t square[kLanes] = {};
    for (int64_t step = low; step < std::min(steps, low + kBlock); ++step) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const uint32_t value = values[step * kLanes + lane];
        sum[lane] += value;
        square[lane] += value * value;
      }
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      sums.total[static_cast<size_t>(lane % kChannels)] += sum[lane];
      sums.squares[static_cast<size_t>(lane % kChannels)] += square[lane];
    }
  }
  for (int64_t i = steps * kLanes; i < pixels * kChannels; ++i) {
    const uint64_t value = values[i];
    sums.total[static_cast<size_t>(i % kChannels)] += value;
    sums.squares[static_cast<size_t>(i % kChannels)] += value * value;
  }
}

}  // namespace

void ChannelSums::add(const uint8_t* image, int64_t pixels, int channels, bool planar) noexcept {
  count += static_cast<uint64_t>(pixels);
  if (planar || channels == 1) {
    for (int c = 0; c < channels; ++c) {
      add_plane(image + c * pixels, pixels, total[static_cast<size_t>(c)], squares[static_cast<size_t>(c)]);
    }
    return;
  }
  switch (channels) {
    case 2: add_interleaved<2>(image, pixels, *this); break;
    case 3: add_interleaved<3>(image, pixels, *this); break;
    default: add_interleaved<4>(image, pixels, *this); break;
  }
}

void ChannelSums::add(const ChannelSums& other) noexcept {
  count += other.count;
  for (size_t c = 0; c < total.size(); ++c) {
    total[c] += other.total[c];
    squares[c] += other.squares[c];
  }
}

}  // namespace lds
