// Every SIMD kernel equals its scalar version, for all tails.
#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "resize/kernels.h"

using namespace lds;

namespace {

std::vector<uint8_t> noise(size_t bytes, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> out(bytes);
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(random() % 5 == 0 ? 255 : random());
  return out;
}

}  // namespace

TEST_CASE("horizontal equals scalar") {
  for (const Filter filter : {Filter::box, Filter::bilinear, Filter::bicubic, Filter::lanczos}) {
    for (int channels = 1; channels <= 4; ++channels) {
      for (int in = 1; in < 60; in += 3) {
        for (const int out : {1, 2, 7, 16, 33}) {
          FilterTable table;
          table.prepare({in, 0, static_cast<float>(in), out, 0, out, filter, true});
          if (table.stride == 0) continue;
          const int pixels = table.source_end - table.source_begin;
          // exactly as long as the row: a kernel that reads on is caught by ASan
          const std::vector<uint8_t> row = noise(static_cast<size_t>(pixels * channels), static_cast<unsigned>(in));
          std::vector<uint8_t> expected(static_cast<size_t>(out * channels + kRowSlack));
          std::vector<uint8_t> found(expected.size());
          scalar_resize_kernels().horizontal(row.data(), pixels, channels, table, expected.data());
          resize_kernels().horizontal(row.data(), pixels, channels, table, found.data());
          expected.resize(static_cast<size_t>(out * channels));
          found.resize(expected.size());
          CHECK(expected == found);
        }
      }
    }
  }
}

TEST_CASE("vertical equals scalar") {
  std::mt19937 random(1);
  for (int taps = 1; taps < 12; ++taps) {
    for (int bytes = 1; bytes < 130; bytes += 7) {
      std::vector<std::vector<uint8_t>> rows;
      std::vector<const uint8_t*> pointers;
      std::vector<int32_t> weights;
      for (int tap = 0; tap < taps; ++tap) {
        rows.push_back(noise(static_cast<size_t>(bytes + kRowSlack), static_cast<unsigned>(tap)));
        weights.push_back(static_cast<int32_t>(random() % (1U << 23)) - (1 << 21));
      }
      for (const auto& row : rows) pointers.push_back(row.data());
      std::vector<uint8_t> expected(static_cast<size_t>(bytes + kRowSlack));
      std::vector<uint8_t> found(expected.size());
      scalar_resize_kernels().vertical(pointers.data(), taps, weights.data(), bytes, expected.data());
      resize_kernels().vertical(pointers.data(), taps, weights.data(), bytes, found.data());
      expected.resize(static_cast<size_t>(bytes));
      found.resize(expected.size());
      CHECK(expected == found);
    }
  }
}

TEST_CASE("deinterleave equals scalar") {
  for (int channels = 1; channels <= 4; ++channels) {
    for (int pixels = 1; pixels < 70; ++pixels) {
      const std::vector<uint8_t> row = noise(static_cast<size_t>(pixels * channels), 3);
      std::vector<uint8_t> expected(static_cast<size_t>(pixels * channels));
      std::vector<uint8_t> found(expected.size());
      scalar_resize_kernels().deinterleave(row.data(), pixels, channels, expected.data(), pixels);
      resize_kernels().deinterleave(row.data(), pixels, channels, found.data(), pixels);
      CHECK(expected == found);
    }
  }
}
