#include "common/random.h"

#include <bit>
#include <string>
#include <utility>

#include "common/error.h"

namespace lds {
namespace {

constexpr uint32_t kColorStream = 0x80000000U;    // of the counter: separates colours from the samples' other draws
constexpr uint64_t kOrderStream = 0x6f72646572U;  // separates the order from the samples' draws

// Sebastiano Vigna's splitmix64 finaliser: 64 bits in, 64 well-mixed bits out.
uint64_t mix(uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

std::array<uint32_t, 2> key_of(uint64_t seed, uint64_t epoch) noexcept {
  const uint64_t key = mix(seed ^ mix(epoch));
  return {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
}

}  // namespace

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) noexcept {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53U} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57U} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

SampleRandom::SampleRandom(uint64_t seed, uint64_t epoch, uint64_t sample, uint32_t view) noexcept
    : counter_{static_cast<uint32_t>(sample), static_cast<uint32_t>(sample >> 32), 0, view},
      key_(key_of(seed, epoch)) {}

uint32_t SampleRandom::next_u32() noexcept {
  if (used_ == 4) {
    block_ = philox4x32(counter_, key_);
    ++counter_[2];
    used_ = 0;
  }
  return block_[static_cast<size_t>(used_++)];
}

double SampleRandom::uniform() noexcept { return next_u32() * 0x1p-32; }

// Lemire, "Fast random integer generation in an interval", 2019: multiply, and reject the few values that would bias
// the result.
int64_t SampleRandom::below(int64_t n) noexcept {
  const auto range = static_cast<uint32_t>(n);
  uint64_t product = uint64_t{next_u32()} * range;
  if (static_cast<uint32_t>(product) < range) {
    const uint32_t threshold = (0U - range) % range;
    while (static_cast<uint32_t>(product) < threshold) product = uint64_t{next_u32()} * range;
  }
  return static_cast<int64_t>(product >> 32);
}

void color_uniforms(uint64_t seed, uint64_t epoch, uint32_t view, const int64_t* samples, int64_t n, int64_t count,
                    double* out) noexcept {
  const std::array<uint32_t, 2> key = key_of(seed, epoch);
  for (int64_t i = 0; i < n; ++i) {
    const auto sample = static_cast<uint64_t>(samples[i]);
    std::array<uint32_t, 4> counter{static_cast<uint32_t>(sample), static_cast<uint32_t>(sample >> 32), 0,
                                    kColorStream | view};
    for (int64_t j = 0; j < count; ++counter[2]) {
      const std::array<uint32_t, 4> block = philox4x32(counter, key);
      for (size_t k = 0; k < block.size() && j < count; ++k, ++j) out[i * count + j] = block[k] * 0x1p-32;
    }
  }
}

// NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): the table is only used for a small n
KeyedPermutation::KeyedPermutation(int64_t n, uint64_t seed, uint64_t epoch) : n_(n) {
  if (n < 0) throw Error(Reason::value, "n must not be negative, found " + std::to_string(n));
  epoch ^= kOrderStream;
  if (n <= kMaxTable) {
    draw_table(seed, epoch);
    return;
  }
  half_bits_ = (std::bit_width(static_cast<uint64_t>(n - 1)) + 1) / 2;
  uint64_t state = mix(seed ^ mix(epoch));
  for (uint64_t& key : round_keys_) key = state = mix(state);
  exchange_ = mix(state) & 1;
}

void KeyedPermutation::draw_table(uint64_t seed, uint64_t epoch) noexcept {
  SampleRandom random(seed, epoch, static_cast<uint64_t>(n_));
  const auto n = static_cast<size_t>(n_);
  for (size_t i = 0; i < n; ++i) table_[i] = static_cast<uint16_t>(i);
  for (size_t i = n; i > 1; --i) {
    std::swap(table_[i - 1], table_[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
  }
}

int64_t KeyedPermutation::walk(int64_t position) const noexcept {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  auto value = static_cast<uint64_t>(position);
  do {
    uint64_t left = value >> half_bits_;
    uint64_t right = value & mask;
    for (const uint64_t key : round_keys_) {
      const uint64_t next = left ^ (mix(right ^ key) & mask);
      left = right;
      right = next;
    }
    value = left << half_bits_ | right;
  } while (value >= static_cast<uint64_t>(n_));
  if (value < 2) value ^= exchange_;
  return static_cast<int64_t>(value);
}

}  // namespace lds
