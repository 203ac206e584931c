// Chooses the instruction set for the kernels that have several implementations: resizing, conversion, hashing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lds {

// Those of x86-64 are in the order of their speed. A kernel that is no faster with avx512 is that of avx2 there.
enum class Simd : uint8_t { scalar, avx2, avx512, neon };
const char* simd_name(Simd simd) noexcept;

// What this processor and its operating system support, the fastest last.
std::vector<Simd> supported_simd();

// The instruction set with this name, or the fastest one for an empty name. Error(Reason::value) for an unknown name or
// one that this processor does not support.
Simd simd_named(const std::string& name);

// The instruction set that all kernels use: simd_named($LARGEDS_SIMD), evaluated once. All choices give the same
// results, bit for bit.
Simd simd();

// AVX2, with or without AVX-512.
constexpr bool includes_avx2(Simd simd) noexcept { return simd == Simd::avx2 || simd == Simd::avx512; }

// True if AVX-512 can permute and multiply single bytes (VBMI and VNNI), as from Ice Lake and Zen 4 on.
bool has_avx512_bytes() noexcept;

}  // namespace lds
