// Conversion kernels for AVX2 with FMA and F16C: eight values at a time, optionally with streaming stores.
#include "convert/convert.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "convert/scalar.h"

#define LDS_AVX2 __attribute__((target("avx2,fma,f16c")))
#define LDS_AVX2_INLINE __attribute__((target("avx2,fma,f16c"), always_inline)) inline

namespace lds {
namespace {

constexpr int64_t kStep = 8;

LDS_AVX2_INLINE __m128i nearest_even_bfloat16(__m256 values) {
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0x08));
}

template <PixelType kType, bool kStream>
LDS_AVX2_INLINE void store(__m256 values, void* out, int64_t at) {
  if constexpr (kType == PixelType::float32) {
    float* target = static_cast<float*>(out) + at;
    kStream ? _mm256_stream_ps(target, values) : _mm256_storeu_ps(target, values);
  } else {
    const __m128i halves = kType == PixelType::float16 ? _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT)
                                                       : nearest_even_bfloat16(values);
    auto* target = reinterpret_cast<__m128i*>(static_cast<uint16_t*>(out) + at);
    kStream ? _mm_stream_si128(target, halves) : _mm_storeu_si128(target, halves);
  }
}

LDS_AVX2_INLINE __m256 load(const uint8_t* source) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source))));
}

// The number of values before the first aligned one. Streaming stores must be aligned.
int64_t unaligned_head(const void* out, int64_t item_bytes, int64_t alignment) {
  const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % static_cast<uintptr_t>(alignment));
  return past == 0 ? 0 : (alignment - past) / item_bytes;
}

// Converts n values of repeating channels. kPeriod vectors of eight values contain a whole number of pixels.
template <PixelType kType, bool kStream, int kPeriod>
LDS_AVX2 void convert(const uint8_t* source, int64_t n, int channels, const Scale& scale, void* out) {
  const auto one = [&](int64_t i) {
    convert_one(source[i], scale.multiply[i % channels], scale.add[i % channels], kType, out, i);
  };
  const int64_t head = kStream ? std::min(n, unaligned_head(out, pixel_bytes(kType), kStep * pixel_bytes(kType))) : 0;
  int64_t i = 0;
  for (; i < head; ++i) one(i);
  __m256 multiply[kPeriod];
  __m256 add[kPeriod];
  for (int vector = 0; vector < kPeriod; ++vector) {
    alignas(32) float m[8];
    alignas(32) float a[8];
    for (int lane = 0; lane < 8; ++lane) {
      const int64_t channel = (head + int64_t{vector} * 8 + lane) % channels;
      m[lane] = scale.multiply[channel];
      a[lane] = scale.add[channel];
    }
    multiply[vector] = _mm256_load_ps(m);
    add[vector] = _mm256_load_ps(a);
  }
  constexpr int64_t kBlock = kStep * kPeriod;
  for (; i + kBlock <= n; i += kBlock) {
    for (int vector = 0; vector < kPeriod; ++vector) {
      const int64_t at = i + vector * kStep;
      store<kType, kStream>(_mm256_fmadd_ps(load(source + at), multiply[vector], add[vector]), out, at);
    }
  }
  for (; i < n; ++i) one(i);
}

LDS_AVX2 void copy(const uint8_t* source, int64_t n, void* out, bool stream) {
  auto* target = static_cast<uint8_t*>(out);
  if (!stream) {
    std::memcpy(target, source, static_cast<size_t>(n));
    return;
  }
  int64_t i = std::min(n, unaligned_head(out, 1, 32));
  std::memcpy(target, source, static_cast<size_t>(i));
  for (; i + 128 <= n; i += 128) {
    __m256i lines[4];
    for (int64_t line = 0; line < 4; ++line) {
      lines[line] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i + 32 * line));
    }
    for (int64_t line = 0; line < 4; ++line) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(target + i + 32 * line), lines[line]);
    }
  }
  // Lines of an image follow each other: an ordinary store to a cache line that is still being combined from streaming
  // stores would cost more than the whole line.
  for (; i + 32 <= n; i += 32) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(target + i),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i)));
  }
  std::memcpy(target + i, source + i, static_cast<size_t>(n - i));
}

template <PixelType kType>
void convert_as(const uint8_t* source, int64_t n, int channels, const Scale& scale, void* out, bool stream) {
  if (channels == 3) {
    stream ? convert<kType, true, 3>(source, n, 3, scale, out) : convert<kType, false, 3>(source, n, 3, scale, out);
  } else {  // 1, 2 and 4 channels divide eight
    stream ? convert<kType, true, 1>(source, n, channels, scale, out)
           : convert<kType, false, 1>(source, n, channels, scale, out);
  }
}

void pixels(const uint8_t* source, int64_t n, int channels, const Scale& scale, PixelType type, void* out,
            bool stream) {
  const int64_t values = n * channels;
  if (values == 0) return;  // source and out may be null
  switch (type) {
    case PixelType::uint8: copy(source, values, out, stream); break;
    case PixelType::float32: convert_as<PixelType::float32>(source, values, channels, scale, out, stream); break;
    case PixelType::float16: convert_as<PixelType::float16>(source, values, channels, scale, out, stream); break;
    case PixelType::bfloat16: convert_as<PixelType::bfloat16>(source, values, channels, scale, out, stream); break;
    default: break;  // only the types of ConvertKernels
  }
}

// Whole vectors, as the reader of the result loads whole vectors too: a load that spans several smaller stores waits
// for all of them.
LDS_AVX2 void mirror(const uint8_t* bytes, int64_t n, uint8_t* out) {
  const __m256i reversed =
      _mm256_broadcastsi128_si256(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m256i line = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + n - 32 - i));
    const __m256i halves = _mm256_shuffle_epi8(line, reversed);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_permute4x64_epi64(halves, 0x4e));
  }
  for (; i < n; ++i) out[i] = bytes[n - 1 - i];
}

}  // namespace

const ConvertKernels& avx2_convert_kernels() noexcept {
  static constexpr ConvertKernels kernels{"avx2", pixels, mirror};
  return kernels;
}

}  // namespace lds

#endif
