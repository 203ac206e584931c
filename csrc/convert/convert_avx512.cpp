// Conversion kernels for AVX-512: a whole cache line at a time, optionally with streaming stores. What lies before the
// first whole line of the output and after the last one is left to the kernels for AVX2.
#include "convert/convert.h"

#if defined(__x86_64__)

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/avx512.h"

namespace lds {
namespace {

constexpr int64_t kLine = 64;

// The 32-bit sum whose upper half is the bfloat16 that is nearest to the value. VCVTNEPS2BF16 would make subnormal
// values 0.
LDS_AVX512_INLINE __m512i nearest_even_bfloat16(__m512 values) {
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}

template <PixelType kType>
LDS_AVX512_INLINE __m512i halves(__m512 low, __m512 high) {
  if constexpr (kType == PixelType::float16) {
    const __m256i parts[2] = {_mm512_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT),
                              _mm512_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT)};
    return _mm512_inserti64x4(_mm512_castsi256_si512(parts[0]), parts[1], 1);
  } else {
    alignas(64) static constexpr uint16_t upper[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                       33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    return _mm512_permutex2var_epi16(nearest_even_bfloat16(low), _mm512_load_si512(upper), nearest_even_bfloat16(high));
  }
}

LDS_AVX512_INLINE __m512 load(const uint8_t* source) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source))));
}

template <bool kStream>
LDS_AVX512_INLINE void store(uint8_t* out, __m512i line) {
  auto* const target = reinterpret_cast<__m512i*>(out);
  kStream ? _mm512_stream_si512(target, line) : _mm512_storeu_si512(target, line);
}

// The factors of 16 values beginning with one of channel `first`.
LDS_AVX512 __m512 factors(const float* of_channels, int channels, int first) {
  if (channels == 1) return _mm512_set1_ps(of_channels[0]);
  alignas(64) float lanes[16];
  for (int lane = 0, channel = first; lane < 16; ++lane) {
    lanes[lane] = of_channels[channel];
    channel = channel + 1 == channels ? 0 : channel + 1;
  }
  return _mm512_load_ps(lanes);
}

// Fills `blocks` blocks of kPeriod cache lines. The source begins with a pixel, and kPeriod vectors of 16 values
// contain a whole number of pixels.
template <PixelType kType, bool kStream, int kPeriod>
LDS_AVX512 void convert_blocks(const uint8_t* source, int64_t blocks, int channels, const Scale& scale, uint8_t* out) {
  constexpr int kVectors = kType == PixelType::float32 ? 1 : 2;  // of 16 values, in a cache line
  __m512 multiply[kPeriod];
  __m512 add[kPeriod];
  for (int vector = 0; vector < kPeriod; ++vector) {
    multiply[vector] = factors(scale.multiply, channels, vector * 16 % channels);
    add[vector] = factors(scale.add, channels, vector * 16 % channels);
  }
  for (int64_t block = 0; block < blocks; ++block) {
    for (int line = 0; line < kPeriod; ++line, source += ptrdiff_t{16} * kVectors, out += kLine) {
      const int first = line * kVectors % kPeriod;
      const __m512 low = _mm512_fmadd_ps(load(source), multiply[first], add[first]);
      if constexpr (kVectors == 1) {
        store<kStream>(out, _mm512_castps_si512(low));
      } else {
        const int second = (first + 1) % kPeriod;
        store<kStream>(out, halves<kType>(low, _mm512_fmadd_ps(load(source + 16), multiply[second], add[second])));
      }
    }
  }
}

template <bool kStream>
LDS_AVX512 void copy_lines(const uint8_t* source, int64_t lines, uint8_t* out) {
  for (; lines >= 4; lines -= 4, source += 4 * kLine, out += 4 * kLine) {
    __m512i four[4];
    for (ptrdiff_t line = 0; line < 4; ++line) four[line] = _mm512_loadu_si512(source + line * kLine);
    for (ptrdiff_t line = 0; line < 4; ++line) store<kStream>(out + line * kLine, four[line]);
  }
  for (; lines > 0; --lines, source += kLine, out += kLine) store<kStream>(out, _mm512_loadu_si512(source));
}

template <PixelType kType, bool kStream>
void fill(const uint8_t* source, int64_t blocks, int channels, const Scale& scale, uint8_t* out) {
  if constexpr (kType == PixelType::uint8) {
    copy_lines<kStream>(source, blocks * (channels == 3 ? 3 : 1), out);
  } else if (channels == 3) {
    convert_blocks<kType, kStream, 3>(source, blocks, 3, scale, out);
  } else {  // 1, 2 and 4 channels divide sixteen
    convert_blocks<kType, kStream, 1>(source, blocks, channels, scale, out);
  }
}

// The least number of pixels before one that begins on a cache line, or n if none of the n pixels does.
int64_t pixels_before_line(const void* out, int64_t n, int64_t pixel) {
  const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % uintptr_t{kLine});
  for (int64_t i = 0; i < std::min(n, kLine); ++i) {
    if ((past + i * pixel) % kLine == 0) return i;
  }
  return n;
}

template <PixelType kType>
void convert_as(const uint8_t* source, int64_t n, int channels, const Scale& scale, void* out, bool stream) {
  const ConvertKernels& narrow = avx2_convert_kernels();
  const int64_t bytes = kType == PixelType::uint8 ? 1 : kType == PixelType::float32 ? 4 : 2;
  const int64_t block = kLine * (channels == 3 ? 3 : 1) / (bytes * channels);  // pixels
  auto* target = static_cast<uint8_t*>(out);
  const auto skip = [&](int64_t pixels) {
    source += pixels * channels;
    target += pixels * channels * bytes;
    n -= pixels;
  };
  if (stream) {
    const int64_t head = pixels_before_line(out, n, channels * bytes);
    if (head > 0) narrow.pixels(source, head, channels, scale, kType, target, true);
    skip(head);
  }
  const int64_t blocks = n / block;
  stream ? fill<kType, true>(source, blocks, channels, scale, target)
         : fill<kType, false>(source, blocks, channels, scale, target);
  skip(blocks * block);
  if (n > 0) narrow.pixels(source, n, channels, scale, kType, target, stream);
}

void pixels(const uint8_t* source, int64_t n, int channels, const Scale& scale, PixelType type, void* out,
            bool stream) {
  switch (type) {
    case PixelType::uint8: convert_as<PixelType::uint8>(source, n, channels, scale, out, stream); break;
    case PixelType::float32: convert_as<PixelType::float32>(source, n, channels, scale, out, stream); break;
    case PixelType::float16: convert_as<PixelType::float16>(source, n, channels, scale, out, stream); break;
    case PixelType::bfloat16: convert_as<PixelType::bfloat16>(source, n, channels, scale, out, stream); break;
    default: break;  // only the types of ConvertKernels
  }
}

LDS_AVX512 void mirror(const uint8_t* bytes, int64_t n, uint8_t* out) {
  const __m512i reversed = _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  for (; n >= kLine; n -= kLine, out += kLine) {
    const __m512i lanes = _mm512_shuffle_epi8(_mm512_loadu_si512(bytes + n - kLine), reversed);
    _mm512_storeu_si512(out, _mm512_shuffle_i64x2(lanes, lanes, 0x1b));
  }
  avx2_convert_kernels().mirror(bytes, n, out);
}

}  // namespace

const ConvertKernels& avx512_convert_kernels() noexcept {
  static constexpr ConvertKernels kernels{"avx512", pixels, mirror};
  return kernels;
}

}  // namespace lds

#endif
