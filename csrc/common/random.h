// Random order and random augmentation without state: counter-based random numbers and a keyed permutation. Any sample
// of any epoch is computed directly from its number, in O(1) memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace lds {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) noexcept;

// The random draws of one view of a sample: a Philox stream keyed by (seed, epoch), with the numbers of the sample and
// of the view in the counter.
class SampleRandom {
 public:
  SampleRandom(uint64_t seed, uint64_t epoch, uint64_t sample, uint32_t view = 0) noexcept;
  uint32_t next_u32() noexcept;
  double uniform() noexcept;          // [0, 1), 32 random bits
  int64_t below(int64_t n) noexcept;  // uniform in [0, n), unbiased

 private:
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

// The draws of colour augmentation: `count` numbers in [0, 1) for each of n samples, out[i * count + j], from the
// Philox stream of (seed, epoch), the sample and its view. The highest bit of the counter keeps them apart from
// SampleRandom's. `view` is below 2^31.
void color_uniforms(uint64_t seed, uint64_t epoch, uint32_t view, const int64_t* samples, int64_t n, int64_t count,
                    double* out) noexcept;

// A permutation of [0, n) keyed by (seed, epoch): position -> element.
//
// Up to kMaxTable elements, it is a table, shuffled by Fisher and Yates: with so few bits, a Feistel network prefers
// some permutations. For more elements, a Feistel network permutes [0, 4^k), the smallest such range that holds n; a
// result outside [0, n) is permuted again until it falls inside (cycle walking). A Feistel network is always an even
// permutation of its range, so one more bit of the key decides whether elements 0 and 1 are swapped.
class KeyedPermutation {
 public:
  static constexpr int64_t kMaxTable = 1024;  // takes as long to shuffle as the network takes for a batch of 256

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
  uint64_t exchange_ = 0;  // 1: elements 0 and 1 are swapped
  std::array<uint64_t, 6> round_keys_{};
  std::array<uint16_t, kMaxTable> table_;  // the first n are used, if n <= kMaxTable
};

}  // namespace lds
