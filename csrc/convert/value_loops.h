// The loops of ValueKernels. A file that includes this header defines LDS_LOOPS, the attributes of its target, so that
// each target has functions of its own.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "convert/scalar.h"
#include "convert/value_kernels.h"

namespace lds {
namespace {

template <class Value>
LDS_LOOPS Value load(const uint8_t* values, int64_t i) {
  Value value;
  std::memcpy(&value, values + i * static_cast<int64_t>(sizeof(Value)), sizeof(Value));
  return value;
}

template <class Value>
LDS_LOOPS void store(uint8_t* values, int64_t i, Value value) {
  std::memcpy(values + i * static_cast<int64_t>(sizeof(Value)), &value, sizeof(Value));
}

// Rounds to nearest even: the last bit of the sum is worth 1. For values to 2^22, far beyond what a resize of 16-bit
// integers gives.
LDS_LOOPS int32_t rounded(float value) {
  constexpr float kOne = 12582912.0F;  // 1.5 * 2^23
  return std::bit_cast<int32_t>(value + kOne) - std::bit_cast<int32_t>(kOne);
}

template <class Integer, int kLow, int kHigh>
LDS_LOOPS void store_rounded(const float* values, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) store(out, i, static_cast<Integer>(std::clamp(rounded(values[i]), kLow, kHigh)));
}

// Calls use(i, value) with each value as a float.
template <class Use>
LDS_LOOPS void each_value(const uint8_t* values, PixelType type, int64_t n, Use use) {
  switch (type) {
    case PixelType::uint8:
      for (int64_t i = 0; i < n; ++i) use(i, static_cast<float>(values[i]));
      break;
    case PixelType::uint16:
      for (int64_t i = 0; i < n; ++i) use(i, static_cast<float>(load<uint16_t>(values, i)));
      break;
    case PixelType::int16:
      for (int64_t i = 0; i < n; ++i) use(i, static_cast<float>(load<int16_t>(values, i)));
      break;
    case PixelType::float32:
      for (int64_t i = 0; i < n; ++i) use(i, load<float>(values, i));
      break;
    case PixelType::float16:
      for (int64_t i = 0; i < n; ++i) use(i, from_float16(load<uint16_t>(values, i)));
      break;
    case PixelType::bfloat16:
      for (int64_t i = 0; i < n; ++i) use(i, from_bfloat16(load<uint16_t>(values, i)));
      break;
    default: break;
  }
}

LDS_LOOPS void scale(float* values, int64_t n, const float* multiply, const float* add) {
  for (int64_t i = 0; i < n; ++i) values[i] = std::fma(values[i], multiply[i], add[i]);
}

LDS_LOOPS void widen(const uint8_t* values, PixelType type, int64_t n, float* out) {
  each_value(values, type, n, [out](int64_t i, float value) { out[i] = value; });
}

LDS_LOOPS void add_weighted(const uint8_t* values, PixelType type, int64_t n, float weight, float* out) {
  each_value(values, type, n, [out, weight](int64_t i, float value) { out[i] += value * weight; });
}

LDS_LOOPS void narrow(const float* values, PixelType type, int64_t n, uint8_t* out) {
  switch (type) {
    case PixelType::uint8: store_rounded<uint8_t, 0, 255>(values, n, out); break;
    case PixelType::uint16: store_rounded<uint16_t, 0, 65535>(values, n, out); break;
    case PixelType::int16: store_rounded<int16_t, -32768, 32767>(values, n, out); break;
    case PixelType::float32:
      if (n > 0) std::memcpy(out, values, static_cast<size_t>(n) * sizeof(float));
      break;
    case PixelType::float16:
      for (int64_t i = 0; i < n; ++i) store(out, i, to_float16(values[i]));
      break;
    case PixelType::bfloat16:
      for (int64_t i = 0; i < n; ++i) store(out, i, to_bfloat16(values[i]));
      break;
    default: break;
  }
}

template <class Word>
LDS_LOOPS void reverse_words(const uint8_t* values, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) store(out, i, load<Word>(values, n - 1 - i));
}

LDS_LOOPS void reverse(const uint8_t* values, int64_t n, int64_t bytes, uint8_t* out) {
  switch (bytes) {
    case 1: reverse_words<uint8_t>(values, n, out); break;
    case 2: reverse_words<uint16_t>(values, n, out); break;
    case 4: reverse_words<uint32_t>(values, n, out); break;
    default: reverse_words<uint64_t>(values, n, out); break;
  }
}

template <class Word>
LDS_LOOPS void pick_words(const PickTable& table, const uint8_t* row, uint8_t* out) {
  const auto n = static_cast<int64_t>(table.from.size());
  const ptrdiff_t* const from = table.from.data();
  for (int64_t i = 0; i < n; ++i) store(out, i, from[i] < 0 ? Word{0} : load<Word>(row + from[i], 0));
}

LDS_LOOPS void pick(const PickTable& table, const uint8_t* row, uint8_t* out) {
  switch (table.value_bytes) {
    case 1: pick_words<uint8_t>(table, row, out); break;
    case 2: pick_words<uint16_t>(table, row, out); break;
    case 4: pick_words<uint32_t>(table, row, out); break;
    default: pick_words<uint64_t>(table, row, out); break;
  }
}

}  // namespace
}  // namespace lds
