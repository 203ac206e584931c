// Converts a single value. These functions define the results of all kernels, which also use them for their tails.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "convert/convert.h"

namespace lds {

inline float scaled(uint8_t value, float multiply, float add) noexcept {
  return std::fma(static_cast<float>(value), multiply, add);
}

// IEEE 754 binary16, round to nearest even. A NaN becomes a quiet one, as by F16C.
inline uint16_t to_float16(float value) noexcept {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00U | (magnitude >> 13 & 0x1ffU));  // NaN
  if (magnitude >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);  // rounds to infinity
  if (magnitude < 0x38800000U) {
    // subnormal: adding 0.5 aligns the mantissa, so the addition rounds
    const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - std::bit_cast<uint32_t>(0.5F)));
  }
  const uint32_t odd = magnitude >> 13 & 1U;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000U + 0xfffU + odd) >> 13));
}

inline float from_float16(uint16_t half) noexcept {
  const uint32_t sign = (half & 0x8000U) << 16;
  const uint32_t magnitude = half & 0x7fffU;
  if (magnitude > 0x7c00U) return std::bit_cast<float>(sign | 0x7fc00000U | magnitude << 13);  // NaN
  if (magnitude == 0x7c00U) return std::bit_cast<float>(sign | 0x7f800000U);
  if (magnitude >= 0x0400U) return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000U));
  // subnormal: the last bits of 0.5 are its units
  const float value = std::bit_cast<float>(magnitude + 0x3f000000U) - 0.5F;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

// The upper half of a float32, rounded to nearest even.
inline uint16_t to_bfloat16(float value) noexcept {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>(bits >> 16 | 0x40U);  // NaN
  return static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

inline float from_bfloat16(uint16_t half) noexcept { return std::bit_cast<float>(uint32_t{half} << 16); }

inline void convert_one(uint8_t value, float multiply, float add, PixelType type, void* out, int64_t at) noexcept {
  switch (type) {
    case PixelType::uint8: static_cast<uint8_t*>(out)[at] = value; break;
    case PixelType::float32: static_cast<float*>(out)[at] = scaled(value, multiply, add); break;
    case PixelType::float16: static_cast<uint16_t*>(out)[at] = to_float16(scaled(value, multiply, add)); break;
    case PixelType::bfloat16: static_cast<uint16_t*>(out)[at] = to_bfloat16(scaled(value, multiply, add)); break;
    default: break;  // only the types of ConvertKernels
  }
}

}  // namespace lds
