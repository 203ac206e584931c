// Order and augmentation are functions, not states: counter-based random numbers and a keyed
// permutation, both O(1) in memory and instant to seek.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace lds {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) noexcept;

// The draws of one sample: a stream keyed by (seed, epoch) with the sample in the counter.
class SampleRandom {
 public:
  SampleRandom(uint64_t seed, uint64_t epoch, uint64_t sample) noexcept;
  uint32_t next_u32() noexcept;
  double uniform() noexcept;          // [0, 1), 32 random bits
  int64_t below(int64_t n) noexcept;  // uniform in [0, n), unbiased

 private:
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

// A permutation of [0, n) keyed by (seed, epoch): position -> element.
//
// Up to kMaxTable elements it is drawn by Fisher and Yates, into a table of bounded size: a Feistel network on so few
// bits prefers some permutations. Beyond, it is a Feistel network on the next even number of bits, walked along its
// cycle until it falls inside [0, n). Such a network on all of its bits is an even permutation, so a last bit of the
// key exchanges elements 0 and 1.
class KeyedPermutation {
 public:
  static constexpr int64_t kMaxTable = 1024;  // as fast to draw as the network gives a batch of 256

  KeyedPermutation(int64_t n, uint64_t seed, uint64_t epoch);
  int64_t size() const noexcept { return n_; }
  int64_t operator()(int64_t position) const noexcept {
    return n_ <= kMaxTable ? table_[static_cast<size_t>(position)] : walk(position);
  }

 private:
  void draw_table(uint64_t seed, uint64_t epoch) noexcept;
  int64_t walk(int64_t position) const noexcept;

  int64_t n_;
  int half_bits_ = 1;
  uint64_t exchange_ = 0;  // 1: elements 0 and 1 change places
  std::array<uint64_t, 6> round_keys_{};
  std::array<uint16_t, kMaxTable> table_;  // of the first n, where n is small
};

}  // namespace lds
