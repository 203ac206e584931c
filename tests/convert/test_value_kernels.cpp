// Tests that the loops for each processor equal the scalar ones, bit for bit, for all lengths, and that halves round.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "convert/scalar.h"
#include "convert/value_kernels.h"

using namespace lds;

namespace {

constexpr PixelType kTypes[] = {PixelType::uint8,   PixelType::uint16,  PixelType::int16,
                                PixelType::float16, PixelType::float32, PixelType::bfloat16};

std::vector<uint8_t> some_bytes(size_t n) {
  std::vector<uint8_t> bytes(n);
  uint32_t state = 1;
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>((state = state * 1664525U + 1013904223U) >> 24);
  return bytes;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

namespace {

void check_values(const ValueKernels& fast) {
  const ValueKernels& slow = scalar_value_kernels();
  const std::vector<uint8_t> bytes = some_bytes(4 * 70 + 1);
  for (const PixelType type : kTypes) {
    for (int64_t n = 0; n <= 70; ++n) {
      const auto size = static_cast<size_t>(n);
      std::vector<float> found(size), expected(size), multiply(size, 0.3F), add(size, -0.7F);
      fast.widen(bytes.data() + 1, type, n, found.data());  // not aligned
      slow.widen(bytes.data() + 1, type, n, expected.data());
      CHECK(same(found, expected));
      for (float& value : found) value = value == value && value < 1e6F && value > -1e6F ? value : 1.5F;
      expected = found;
      fast.add_weighted(bytes.data(), PixelType::int16, n, 0.37F, found.data());
      slow.add_weighted(bytes.data(), PixelType::int16, n, 0.37F, expected.data());
      CHECK(same(found, expected));
      fast.scale(found.data(), n, multiply.data(), add.data());
      slow.scale(expected.data(), n, multiply.data(), add.data());
      CHECK(same(found, expected));
      std::vector<uint8_t> narrow(size * 4), narrow_expected(size * 4);
      fast.narrow(found.data(), type, n, narrow.data());
      slow.narrow(expected.data(), type, n, narrow_expected.data());
      CHECK(narrow == narrow_expected);
    }
  }
}

}  // namespace

TEST_CASE("the kernels of values equal the scalar ones") {
  for (const Simd set : supported_simd()) check_values(value_kernels(set));
}

TEST_CASE("integers are rounded to nearest even, and clamped") {
  const float values[] = {-1, 0.5F, 1.5F, 2.5F, 254.6F, 300, 65535.4F, 70000, -40000};
  uint8_t bytes[9] = {};
  uint16_t words[9] = {};
  int16_t numbers[9] = {};
  scalar_value_kernels().narrow(values, PixelType::uint8, 9, bytes);
  scalar_value_kernels().narrow(values, PixelType::uint16, 9, reinterpret_cast<uint8_t*>(words));
  scalar_value_kernels().narrow(values, PixelType::int16, 9, reinterpret_cast<uint8_t*>(numbers));
  CHECK(std::vector<int>(bytes, bytes + 9) == std::vector<int>{0, 0, 2, 2, 255, 255, 255, 255, 0});
  CHECK(std::vector<int>(words, words + 9) == std::vector<int>{0, 0, 2, 2, 255, 300, 65535, 65535, 0});
  CHECK(std::vector<int>(numbers, numbers + 9) == std::vector<int>{-1, 0, 2, 2, 255, 300, 32767, 32767, -32768});
}

TEST_CASE("every half is itself after a way by float32, and a NaN is quiet") {
  for (uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const bool nan = (half & 0x7fffU) > 0x7c00U;
    CHECK(to_float16(from_float16(half)) == (nan ? half | 0x200U : half));
    const bool wide_nan = (half & 0x7fffU) > 0x7f80U;
    CHECK(to_bfloat16(from_bfloat16(half)) == (wide_nan ? half | 0x40U : half));
  }
}

namespace {

// Rows are allocated with their exact size, so that the address sanitizer detects reads past their ends.
void check_pick(const ValueKernels& kernels, int64_t value_bytes, std::vector<ptrdiff_t> from, size_t row_bytes) {
  const std::vector<uint8_t> row = some_bytes(row_bytes);
  PickTable table;
  table.value_bytes = value_bytes;
  table.from = std::move(from);
  table.prepare();
  const auto bytes = static_cast<size_t>(value_bytes);
  std::vector<uint8_t> expected(table.from.size() * bytes, 0), found(expected.size() + PickTable::kPad, 7);
  for (size_t i = 0; i < table.from.size(); ++i) {
    if (table.from[i] >= 0) std::memcpy(&expected[i * bytes], row.data() + table.from[i], bytes);
  }
  kernels.pick(table, row.data(), found.data());
  found.resize(expected.size());
  CAPTURE(kernels.name);
  CAPTURE(value_bytes);
  CAPTURE(row_bytes);
  CHECK(found == expected);
}

}  // namespace

TEST_CASE("values are picked from rows of any length, in any order, and -1 gives 0") {
  for (const Simd set : supported_simd()) {
    const ValueKernels& kernels = value_kernels(set);
    for (const ptrdiff_t bytes : {1, 2, 4, 8}) {
      for (ptrdiff_t n = 0; n <= 70; n += n < 34 ? 1 : 9) {
        for (const ptrdiff_t width : {1, 3, 15, 16, 17, 33, 70, 100, 300}) {
          std::vector<ptrdiff_t> forward, back, scattered, pixels;
          for (ptrdiff_t i = 0; i < n; ++i) {
            forward.push_back((2 * i + 1) * width / (2 * n) * bytes);
            scattered.push_back(i % 5 == 4 ? -1 : i * 7919 % width * bytes);
            pixels.push_back(forward.back() * 3 + 2 * bytes);
          }
          back.assign(forward.rbegin(), forward.rend());
          const auto row_bytes = static_cast<size_t>(width * bytes);
          for (const auto& from : {forward, back, scattered}) check_pick(kernels, bytes, from, row_bytes);
          check_pick(kernels, bytes, pixels, row_bytes * 3);
          check_pick(kernels, bytes, std::vector<ptrdiff_t>(static_cast<size_t>(n), -1), 0);
        }
      }
    }
  }
}
