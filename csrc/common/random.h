// Random order and random augmentation without state: counter-based random numbers and a keyed permutation. Any sample
// of any epoch is computed directly from its number, in O(1) memory.
#pragma once

#include <array>
#include <cstdint>

namespace lds {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) noexcept;

// The random draws of one sample: a Philox stream keyed by (seed, epoch), with the sample number in the counter.
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

// A permutation of [0, n) keyed by (seed, epoch): position -> element. A Feistel network permutes [0, 4^k), the
// smallest such range that holds n; a result outside [0, n) is permuted again until it falls inside (cycle walking).
class KeyedPermutation {
 public:
  KeyedPermutation(int64_t n, uint64_t seed, uint64_t epoch);
  int64_t size() const noexcept { return n_; }
  int64_t operator()(int64_t position) const noexcept;

 private:
  int64_t n_;
  int half_bits_;
  std::array<uint64_t, 6> round_keys_;
};

}  // namespace lds
