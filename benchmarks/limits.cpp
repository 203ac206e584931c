// The limits that the loader is measured against: the least that any program must do for a batch.
// Compiled by limits.py for this machine alone; called from as many threads as the contenders have.
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

enum Type { float32, float16, bfloat16 };

#if defined(__AVX512F__) && defined(__AVX512BW__)
constexpr int64_t kLine = 64;
using Line = __m512i;
using Floats = __m512;
Line load_line(const uint8_t* from) { return _mm512_loadu_si512(from); }
void stream(void* to, Line line) { _mm512_stream_si512((__m512i*)to, line); }
Floats all(float value) { return _mm512_set1_ps(value); }
Floats scaled(const uint8_t* from, Floats m, Floats a) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)from));
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(wide), m, a);
}
Line as_line(Floats values) { return _mm512_castps_si512(values); }
__m256i rounded(Floats values) {  // to bfloat16
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(sum, 16));
}
template <Type kType>
Line halves(Floats low, Floats high) {
  const __m256i a = kType == float16 ? _mm512_cvtps_ph(low, 0) : rounded(low);
  const __m256i b = kType == float16 ? _mm512_cvtps_ph(high, 0) : rounded(high);
  return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}
#elif defined(__AVX2__)
constexpr int64_t kLine = 32;
using Line = __m256i;
using Floats = __m256;
Line load_line(const uint8_t* from) { return _mm256_loadu_si256((const __m256i*)from); }
void stream(void* to, Line line) { _mm256_stream_si256((__m256i*)to, line); }
Floats all(float value) { return _mm256_set1_ps(value); }
Floats scaled(const uint8_t* from, Floats m, Floats a) {
  const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)from));
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(wide), m, a);
}
Line as_line(Floats values) { return _mm256_castps_si256(values); }
__m256i rounded(Floats values) {  // to bfloat16, in 32 bits each
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}
template <Type kType>
Line halves(Floats low, Floats high) {
  if (kType == float16) return _mm256_set_m128i(_mm256_cvtps_ph(high, 0), _mm256_cvtps_ph(low, 0));
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded(low), rounded(high)), 0xd8);
}
#else
constexpr int64_t kLine = 0;
#endif

template <Type kType>
void one(uint8_t value, float m, float a, uint8_t* out, int64_t at) {
  const float scaled = value * m + a;
  if (kType == float32) {
    std::memcpy(out + at * 4, &scaled, 4);
    return;
  }
  uint16_t half = 0;
  uint32_t bits = 0;
  std::memcpy(&bits, &scaled, 4);
  half = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // of float16 too: the time is nearly the same
  std::memcpy(out + at * 2, &half, 2);
}

template <Type kType>
void normalise_plane(const uint8_t* from, int64_t n, float multiply, float add, uint8_t* out) {
  constexpr int64_t kBytes = kType == float32 ? 4 : 2;
  int64_t p = 0;
#if defined(__AVX2__)
  constexpr int64_t kStep = kLine / kBytes;
  const Floats m = all(multiply), a = all(add);
  for (; p + kStep <= n; p += kStep) {
    const Floats low = scaled(from + p, m, a);
    if constexpr (kType == float32) {
      stream(out + p * kBytes, as_line(low));
    } else {
      stream(out + p * kBytes, halves<kType>(low, scaled(from + p + kStep / 2, m, a)));
    }
  }
#endif
  for (; p < n; ++p) one<kType>(from[p], multiply, add, out, p);
}

template <Type kType>
void normalise(const uint8_t* store, int64_t plane, int channels, const int64_t* rows, int64_t n, const float* multiply,
               const float* add, uint8_t* out) {
  constexpr int64_t kBytes = kType == float32 ? 4 : 2;
  for (int64_t i = 0; i < n; ++i) {
    for (int c = 0; c < channels; ++c) {
      normalise_plane<kType>(store + (rows[i] * channels + c) * plane, plane, multiply[c], add[c],
                             out + (i * channels + c) * plane * kBytes);
    }
  }
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

}  // namespace

extern "C" {

// uint8 rows -> uint8 batch: memcpy of each row.
void copy_rows(const uint8_t* store, int64_t row_bytes, const int64_t* rows, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(out + i * row_bytes, store + rows[i] * row_bytes, row_bytes);
}

// The same past the caches where the machine can. `out` is aligned to 64 bytes, and so is the length of a row.
void stream_rows(const uint8_t* store, int64_t row_bytes, const int64_t* rows, int64_t n, uint8_t* out) {
#if defined(__AVX2__)
  for (int64_t i = 0; i < n; ++i) {
    const uint8_t* from = store + rows[i] * row_bytes;
    for (int64_t p = 0; p < row_bytes; p += kLine) stream(out + i * row_bytes + p, load_line(from + p));
  }
  _mm_sfence();
#else
  copy_rows(store, row_bytes, rows, n, out);
#endif
}

// uint8 planar rows -> planar batch of floats, x * multiply[c] + add[c], past the caches where the machine can. `out`
// is aligned to 64 bytes, and so is the length of a plane of the output.
void normalise_rows(const uint8_t* store, int64_t plane, int channels, const int64_t* rows, int64_t n,
                    const float* multiply, const float* add, uint8_t* out, int type) {
  switch (type) {
    case float32: normalise<float32>(store, plane, channels, rows, n, multiply, add, out); break;
    case float16: normalise<float16>(store, plane, channels, rows, n, multiply, add, out); break;
    default: normalise<bfloat16>(store, plane, channels, rows, n, multiply, add, out); break;
  }
}
}
