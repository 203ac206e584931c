// The types that the values of an image can have: in a store, and in a batch.
#pragma once

#include <cstdint>

namespace lds {

enum class PixelType : uint8_t { uint8, float32, float16, bfloat16, uint16, int16, int32, int64 };

int64_t pixel_bytes(PixelType type) noexcept;  // of one value of one channel
const char* pixel_type_name(PixelType type) noexcept;

constexpr bool is_float(PixelType type) noexcept {
  return type == PixelType::float32 || type == PixelType::float16 || type == PixelType::bfloat16;
}

}  // namespace lds
