// The limits that the loader is measured against: the least that any program must do for a batch.
// Compiled by limits.py for this machine alone; called from as many threads as the contenders have.
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

extern "C" {

// uint8 rows -> uint8 batch: memcpy of each row.
void copy_rows(const uint8_t* store, int64_t row_bytes, const int64_t* rows, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(out + i * row_bytes, store + rows[i] * row_bytes, row_bytes);
}

// uint8 planar rows -> float32 planar batch, x * multiply[c] + add[c], past the caches where the machine can.
void normalise_rows(const uint8_t* store, int64_t plane, int channels, const int64_t* rows, int64_t n,
                    const float* multiply, const float* add, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    for (int c = 0; c < channels; ++c) {
      const uint8_t* from = store + (rows[i] * channels + c) * plane;
      float* to = out + (i * channels + c) * plane;
      int64_t p = 0;
#if defined(__AVX512F__)
      const __m512 m = _mm512_set1_ps(multiply[c]), a = _mm512_set1_ps(add[c]);
      for (; p + 16 <= plane; p += 16) {
        const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)(from + p)));
        _mm512_stream_ps(to + p, _mm512_fmadd_ps(_mm512_cvtepi32_ps(wide), m, a));
      }
#elif defined(__AVX2__)
      const __m256 m = _mm256_set1_ps(multiply[c]), a = _mm256_set1_ps(add[c]);
      for (; p + 8 <= plane; p += 8) {
        const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(from + p)));
        _mm256_stream_ps(to + p, _mm256_fmadd_ps(_mm256_cvtepi32_ps(wide), m, a));
      }
#endif
      for (; p < plane; ++p) to[p] = from[p] * multiply[c] + add[c];
    }
  }
#if defined(__AVX2__)
  _mm_sfence();
#endif
}
}
