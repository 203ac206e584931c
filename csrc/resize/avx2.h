// Helpers that the AVX2 kernels share. A 22-bit weight is split into two 16-bit halves, high * 2^15 + low, so that
// vpmaddwd (multiply-add of 16-bit pairs) can be used. The two sums, combined modulo 2^32, are exactly Pillow's sum.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "resize/kernels.h"

#define LDS_AVX2 __attribute__((target("avx2")))
#define LDS_AVX2_INLINE __attribute__((target("avx2"), always_inline)) inline

namespace lds::avx2 {

LDS_AVX2_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
LDS_AVX2_INLINE __m128i load16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
LDS_AVX2_INLINE void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
LDS_AVX2_INLINE __m256i load_lanes(const uint8_t* low, const uint8_t* high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(low)), load16(high), 1);
}
LDS_AVX2_INLINE __m256i broadcast4(const int16_t* pair) {
  int32_t value = 0;
  std::memcpy(&value, pair, 4);
  return _mm256_set1_epi32(value);
}
LDS_AVX2_INLINE __m256i broadcast8(const int16_t* four) {
  int64_t value = 0;
  std::memcpy(&value, four, 8);
  return _mm256_set1_epi64x(value);
}

// The weighted sum high * 2^15 + low, before rounding.
LDS_AVX2_INLINE __m256i join(__m256i high, __m256i low) { return _mm256_add_epi32(_mm256_slli_epi32(high, 15), low); }
LDS_AVX2_INLINE __m256i finish(__m256i sum) {
  return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(1 << (kPrecisionBits - 1))), kPrecisionBits);
}

// ---- Layout::blocks, in kernels_avx2_blocks.cpp ---------------------------------------------------------------
void prepare_blocks(HorizontalPass& pass);
// Compute outputs [begin, end): horizontal_line() of a single channel, run_blocks() of 1, 3 or 4 interleaved channels.
// `src` points to source pixel `origin`. They may read some bytes past the end of the windows.
void horizontal_line(const HorizontalPass& pass, const uint8_t* src, int origin, int begin, int end, uint8_t* dst);
void run_blocks(const HorizontalPass& pass, const uint8_t* src, int origin, int begin, int end, uint8_t* dst,
                ptrdiff_t dst_stride);

}  // namespace lds::avx2
#endif
