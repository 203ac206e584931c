// The loops of ValueKernels for AVX2; of 16-bit floats, by the conversions of F16C.
#include "convert/value_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define LDS_LOOPS __attribute__((target("avx2,fma,f16c"))) inline
#include "convert/value_loops.h"

namespace lds {
namespace {

// F16C sets the highest bit of a NaN's mantissa, so that a NaN stays one; scalar.h does the same.
LDS_LOOPS void widen_float16(const uint8_t* values, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + i * 2));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
  }
  for (; i < n; ++i) out[i] = from_float16(load<uint16_t>(values, i));
}

LDS_LOOPS void narrow_float16(const float* values, int64_t n, uint8_t* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * 2), halves);
  }
  for (; i < n; ++i) store(out, i, to_float16(values[i]));
}

LDS_LOOPS void widen_avx2(const uint8_t* values, PixelType type, int64_t n, float* out) {
  type == PixelType::float16 ? widen_float16(values, n, out) : widen(values, type, n, out);
}

LDS_LOOPS void narrow_avx2(const float* values, PixelType type, int64_t n, uint8_t* out) {
  type == PixelType::float16 ? narrow_float16(values, n, out) : narrow(values, type, n, out);
}

}  // namespace

const ValueKernels& avx2_value_kernels() noexcept {
  static constexpr ValueKernels kernels{"avx2", widen_avx2, scale, narrow_avx2, add_weighted, reverse};
  return kernels;
}

}  // namespace lds
#endif
