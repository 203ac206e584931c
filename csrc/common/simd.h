// The instruction set of the kernels that are written more than once: resizing, converting, hashing.
#pragma once

#include <cstdint>
#include <string>

namespace lds {

enum class Simd : uint8_t { scalar, avx2, neon };
const char* simd_name(Simd simd) noexcept;

// The one called `name`, for an empty name the fastest. Error where there is none of that name, or this processor
// does not have it.
Simd simd_called(const std::string& name);

// What every kernel asks: simd_called($LARGEDS_SIMD), looked up once. All choices give the same results, bit for bit.
Simd simd();

}  // namespace lds
