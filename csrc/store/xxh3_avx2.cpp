#include "store/xxh3.h"

#if defined(__x86_64__)

// These headers come before the pragma: their inline functions must not be compiled for AVX2, because the linker may
// use that version in the whole program.
#include <immintrin.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

#define XXH_INLINE_ALL
#define XXH_VECTOR 2  // XXH_AVX2
#include <xxhash.h>

namespace lds {

uint64_t xxh3_avx2(const uint8_t* data, size_t bytes) noexcept { return XXH3_64bits(data, bytes); }

}  // namespace lds

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
