// Chooses the instruction set for the kernels that have several implementations: resizing, conversion, hashing.
#pragma once

#include <cstdint>
#include <string>

namespace lds {

enum class Simd : uint8_t { scalar, avx2, neon };
const char* simd_name(Simd simd) noexcept;

// The instruction set with this name, or the fastest one for an empty name. Error(Reason::value) for an unknown name or
// one that this processor does not support.
Simd simd_named(const std::string& name);

// The instruction set that all kernels use: simd_named($LARGEDS_SIMD), evaluated once. All choices give the same
// results, bit for bit.
Simd simd();

}  // namespace lds
