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

constexpr int64_t kLine = 32;  // bytes of one store

// The sum whose upper half is the bfloat16 that is nearest to the value, shifted down.
LDS_AVX2_INLINE __m256i nearest_even_bfloat16(__m256 values) {
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}

template <PixelType kType>
LDS_AVX2_INLINE __m256i halves(__m256 low, __m256 high) {
  if constexpr (kType == PixelType::float16) {
    return _mm256_set_m128i(_mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
  } else {
    const __m256i words = _mm256_packus_epi32(nearest_even_bfloat16(low), nearest_even_bfloat16(high));
    return _mm256_permute4x64_epi64(words, 0xd8);
  }
}

template <bool kStream>
LDS_AVX2_INLINE void store(uint8_t* out, __m256i line) {
  auto* const target = reinterpret_cast<__m256i*>(out);
  kStream ? _mm256_stream_si256(target, line) : _mm256_storeu_si256(target, line);
}

LDS_AVX2_INLINE __m256 load(const uint8_t* source) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source))));
}

// The number of values before the first aligned one. Streaming stores must be aligned.
int64_t unaligned_head(const void* out, int64_t item_bytes) {
  const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % uintptr_t{kLine});
  return past == 0 ? 0 : (kLine - past) / item_bytes;
}

// The factors of eight values beginning with one of channel `first`.
LDS_AVX2_INLINE __m256 factors(const float* of_channels, int channels, int first) {
  if (channels == 1) return _mm256_set1_ps(of_channels[0]);
  alignas(32) float lanes[8];
  for (int lane = 0, channel = first; lane < 8; ++lane) {
    lanes[lane] = of_channels[channel];
    channel = channel + 1 == channels ? 0 : channel + 1;
  }
  return _mm256_load_ps(lanes);
}

// Converts n values of repeating channels. kPeriod vectors of eight values contain a whole number of pixels.
template <PixelType kType, bool kStream, int kPeriod>
LDS_AVX2 void convert(const uint8_t* source, int64_t n, int channels, const Scale& scale, void* out) {
  constexpr int64_t kBytes = kType == PixelType::float32 ? 4 : 2;
  constexpr int64_t kValues = kLine / kBytes;
  constexpr int kVectors = kType == PixelType::float32 ? 1 : 2;  // of eight values, in a line
  int channel = 0;
  const auto one = [&](int64_t i) {
    convert_one(source[i], scale.multiply[channel], scale.add[channel], kType, out, i);
    channel = channel + 1 == channels ? 0 : channel + 1;
  };
  const int64_t head = kStream ? std::min(n, unaligned_head(out, kBytes)) : 0;
  int64_t i = 0;
  for (; i < head; ++i) one(i);
  __m256 multiply[kPeriod];
  __m256 add[kPeriod];
  for (int vector = 0; vector < kPeriod; ++vector) {
    multiply[vector] = factors(scale.multiply, channels, (channel + vector * 8) % channels);
    add[vector] = factors(scale.add, channels, (channel + vector * 8) % channels);
  }
  auto* target = static_cast<uint8_t*>(out) + i * kBytes;
  for (; i + kValues * kPeriod <= n; i += kValues * kPeriod) {
    for (int line = 0; line < kPeriod; ++line, target += kLine) {
      const uint8_t* const from = source + i + line * kValues;
      const int first = line * kVectors % kPeriod;
      const __m256 low = _mm256_fmadd_ps(load(from), multiply[first], add[first]);
      if constexpr (kVectors == 1) {
        store<kStream>(target, _mm256_castps_si256(low));
      } else {
        const int second = (first + 1) % kPeriod;
        store<kStream>(target, halves<kType>(low, _mm256_fmadd_ps(load(from + 8), multiply[second], add[second])));
      }
    }
  }
  for (; i < n; ++i) one(i);  // blocks are whole pixels, so the channel is that after the head
}

LDS_AVX2 void copy(const uint8_t* source, int64_t n, void* out, bool stream) {
  auto* target = static_cast<uint8_t*>(out);
  if (!stream) {
    std::memcpy(target, source, static_cast<size_t>(n));
    return;
  }
  int64_t i = std::min(n, unaligned_head(out, 1));
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
