// The loops of ValueKernels for AVX2; of 16-bit floats, by the conversions of F16C, and what is picked, by shuffles.
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

LDS_LOOPS __m256i load_lanes(const uint8_t* low, const uint8_t* high) {
  return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(high), reinterpret_cast<const __m128i*>(low));
}

template <int kLoads>
LDS_LOOPS void pick_lanes(const PickTable& table, const uint8_t* row, uint8_t* out) {
  const auto* shuffle = reinterpret_cast<const __m256i*>(table.shuffles.data());
  for (size_t lane = 0; lane < table.base.size(); lane += 2, out += 32) {
    const uint8_t *const low = row + table.base[lane], *const high = row + table.base[lane + 1];
    __m256i bytes = _mm256_setzero_si256();
    for (ptrdiff_t load = 0; load < kLoads; ++load, ++shuffle) {
      const __m256i loaded = load_lanes(low + load * PickTable::kLane, high + load * PickTable::kLane);
      bytes = _mm256_or_si256(bytes, _mm256_shuffle_epi8(loaded, _mm256_loadu_si256(shuffle)));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
  }
}

LDS_LOOPS void pick_avx2(const PickTable& table, const uint8_t* row, uint8_t* out) {
  switch (table.loads) {
    case 1: pick_lanes<1>(table, row, out); break;
    case 2: pick_lanes<2>(table, row, out); break;
    case 3: pick_lanes<3>(table, row, out); break;
    case 4: pick_lanes<4>(table, row, out); break;
    default: pick(table, row, out); break;
  }
}

}  // namespace

const ValueKernels& avx2_value_kernels() noexcept {
  static constexpr ValueKernels kernels{"avx2", widen_avx2, scale, narrow_avx2, add_weighted, reverse, pick_avx2};
  return kernels;
}

}  // namespace lds
#endif
