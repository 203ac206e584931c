// AVX2. A weight of 22 fractional bits does not fit a 16-bit multiply, so it is split: the sums of
// pixel * high and of pixel * low are exact, and (high << 15) + low is the 32-bit sum modulo 2^32.
#include "resize/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#define LDS_AVX2 __attribute__((target("avx2")))
#define LDS_AVX2_INLINE __attribute__((target("avx2"), always_inline)) inline

namespace lds {
namespace {

LDS_AVX2_INLINE __m256i merge_halves(__m256i low, __m256i high) {
  return _mm256_add_epi32(low, _mm256_slli_epi32(high, 15));
}

// How many outputs may load 16 bytes at each of their steps without leaving the row.
int outputs_inside(const FilterTable& table, int channels, int64_t row_bytes) {
  auto inside = table.reach.size();
  while (inside > 0 && int64_t{table.reach[inside - 1]} * channels + 16 > row_bytes) --inside;
  return static_cast<int>(inside);
}

// Four taps a step: the lower lane takes pixels 0 and 1, the upper lane 2 and 3, as 16-bit pairs by channel.
template <int kChannels>
LDS_AVX2 void horizontal_pixels(const uint8_t* row, int row_pixels, const FilterTable& table, uint8_t* dst) {
  const __m256i spread = kChannels == 3
                             ? _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                                                6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1)
                             : _mm256_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1,  //
                                                8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1);
  const __m256i pick_low = _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,  //
                                            4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7);
  const __m256i pick_high = _mm256_add_epi8(pick_low, _mm256_set1_epi8(8));
  const int inside = outputs_inside(table, kChannels, int64_t{row_pixels} * kChannels);
  for (int x = 0; x < inside; ++x) {
    const auto output = static_cast<size_t>(x);
    const uint8_t* source = row + static_cast<int64_t>(table.first[output]) * kChannels;
    const int16_t* halves = table.halves.data() + output * static_cast<size_t>(table.stride) * 2;
    const int steps = (table.taps[output] + kTapStep - 1) / kTapStep;
    __m256i low = _mm256_setzero_si256();
    __m256i high = _mm256_setzero_si256();
    for (int step = 0; step < steps; ++step) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + step * kTapStep * kChannels));
      const __m128i weights = _mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + step * kTapStep * 2));
      const __m256i pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), spread);
      const __m256i both = _mm256_broadcastsi128_si256(weights);
      low = _mm256_add_epi32(low, _mm256_madd_epi16(pixels, _mm256_shuffle_epi8(both, pick_low)));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(pixels, _mm256_shuffle_epi8(both, pick_high)));
    }
    const __m256i lanes = merge_halves(low, high);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    sum = _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(kHalf)), kPrecisionBits);
    sum = _mm_packus_epi16(_mm_packs_epi32(sum, sum), sum);
    const int pixel = _mm_cvtsi128_si32(sum);
    // four bytes even for three channels: the next pixel or the row's slack overwrites the fourth
    std::memcpy(dst + x * kChannels, &pixel, 4);
  }
  horizontal_scalar(row, kChannels, table, inside, static_cast<int>(table.first.size()), dst);
}

// One channel, few taps: two outputs of four taps (or one of eight) a step would waste lanes on small filters, so
// eight outputs are summed side by side, four taps each at a time.
LDS_AVX2 void horizontal_gray(const uint8_t* row, int row_pixels, const FilterTable& table, uint8_t* dst) {
  const int outputs = static_cast<int>(table.first.size());
  const int inside = outputs_inside(table, 1, row_pixels) / 4 * 4;
  const size_t stride = static_cast<size_t>(table.stride) * 2;
  for (int x = 0; x < inside; x += 4) {
    const auto output = static_cast<size_t>(x);
    int steps = 0;
    for (size_t i = 0; i < 4; ++i) steps = std::max(steps, (table.taps[output + i] + kTapStep - 1) / kTapStep);
    const int16_t* halves = table.halves.data() + output * stride;
    __m256i low = _mm256_setzero_si256();
    __m256i high = _mm256_setzero_si256();
    for (int step = 0; step < steps; ++step) {
      int32_t four[4];
      for (size_t i = 0; i < 4; ++i) std::memcpy(&four[i], row + table.first[output + i] + step * kTapStep, 4);
      const __m256i pixels = _mm256_cvtepu8_epi16(_mm_setr_epi32(four[0], four[1], four[2], four[3]));
      __m128i weights[4];
      for (size_t i = 0; i < 4; ++i) {
        weights[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + i * stride + step * kTapStep * 2));
      }
      const __m256i first =
          _mm256_set_m128i(_mm_unpacklo_epi64(weights[2], weights[3]), _mm_unpacklo_epi64(weights[0], weights[1]));
      const __m256i second =
          _mm256_set_m128i(_mm_unpackhi_epi64(weights[2], weights[3]), _mm_unpackhi_epi64(weights[0], weights[1]));
      low = _mm256_add_epi32(low, _mm256_madd_epi16(pixels, first));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(pixels, second));
    }
    const __m256i pairs = merge_halves(low, high);  // each output: two neighbouring sums
    const __m256i sums = _mm256_add_epi32(_mm256_hadd_epi32(pairs, pairs), _mm256_set1_epi32(kHalf));
    const __m128i two = _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_srai_epi32(sums, kPrecisionBits), 0x08));
    const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(two, two), two);
    const int pixel = _mm_cvtsi128_si32(bytes);
    std::memcpy(dst + x, &pixel, 4);
  }
  horizontal_scalar(row, 1, table, inside, outputs, dst);
}

LDS_AVX2 void horizontal(const uint8_t* row, int row_pixels, int channels, const FilterTable& table, uint8_t* dst) {
  if (channels == 3) {
    horizontal_pixels<3>(row, row_pixels, table, dst);
  } else if (channels == 4) {
    horizontal_pixels<4>(row, row_pixels, table, dst);
  } else if (channels == 1) {
    horizontal_gray(row, row_pixels, table, dst);
  } else {
    horizontal_scalar(row, channels, table, 0, static_cast<int>(table.first.size()), dst);
  }
}

// Two taps and 32 bytes at a time. Sums of bytes 0-3|8-11 and so on stand in the order that the unpacks leave.
LDS_AVX2 void vertical(const uint8_t* const* rows, int taps, const int32_t* weights, int bytes, uint8_t* dst) {
  const __m256i zero = _mm256_setzero_si256();
  for (int i = 0; i < bytes; i += 32) {
    __m256i low[4] = {zero, zero, zero, zero};
    __m256i high[4] = {zero, zero, zero, zero};
    for (int tap = 0; tap < taps; tap += 2) {
      const bool pair = tap + 1 < taps;
      const int32_t second_weight = pair ? weights[tap + 1] : 0;
      const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[tap] + i));
      const __m256i b = pair ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[tap + 1] + i)) : zero;
      const __m256i lows = _mm256_set1_epi32((weights[tap] & 0x7fff) | (second_weight & 0x7fff) << 16);
      const __m256i highs = _mm256_set1_epi32(static_cast<int>((static_cast<uint32_t>(weights[tap] >> 15) & 0xffffU) |
                                                               static_cast<uint32_t>(second_weight >> 15) << 16));
      const __m256i near = _mm256_unpacklo_epi8(a, b);
      const __m256i far = _mm256_unpackhi_epi8(a, b);
      const __m256i pixels[4] = {_mm256_unpacklo_epi8(near, zero), _mm256_unpackhi_epi8(near, zero),
                                 _mm256_unpacklo_epi8(far, zero), _mm256_unpackhi_epi8(far, zero)};
      for (int part = 0; part < 4; ++part) {
        low[part] = _mm256_add_epi32(low[part], _mm256_madd_epi16(pixels[part], lows));
        high[part] = _mm256_add_epi32(high[part], _mm256_madd_epi16(pixels[part], highs));
      }
    }
    __m256i sums[4];
    for (int part = 0; part < 4; ++part) {
      sums[part] = _mm256_add_epi32(merge_halves(low[part], high[part]), _mm256_set1_epi32(kHalf));
      sums[part] = _mm256_srai_epi32(sums[part], kPrecisionBits);
    }
    const __m256i words_near = _mm256_packs_epi32(sums[0], sums[1]);
    const __m256i words_far = _mm256_packs_epi32(sums[2], sums[3]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i), _mm256_packus_epi16(words_near, words_far));
  }
}

// 16 pixels of three channels a step: each plane's bytes are picked out of three loads.
LDS_AVX2 void deinterleave(const uint8_t* row, int pixels, int channels, uint8_t* dst, int64_t channel_stride) {
  if (channels == 1) {
    std::memcpy(dst, row, static_cast<size_t>(pixels));
    return;
  }
  int x = 0;
  if (channels == 3) {
    alignas(16) int8_t masks[3][3][16];
    for (int plane = 0; plane < 3; ++plane) {
      for (int load = 0; load < 3; ++load) {
        for (int i = 0; i < 16; ++i) {
          const int at = 3 * i + plane - 16 * load;
          masks[plane][load][i] = static_cast<int8_t>(at >= 0 && at < 16 ? at : -1);
        }
      }
    }
    for (; x + 16 <= pixels; x += 16) {
      __m128i loads[3];
      for (int load = 0; load < 3; ++load) {
        loads[load] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 3 * x + 16 * load));
      }
      for (int plane = 0; plane < 3; ++plane) {
        __m128i bytes = _mm_setzero_si128();
        for (int load = 0; load < 3; ++load) {
          const __m128i mask = _mm_load_si128(reinterpret_cast<const __m128i*>(masks[plane][load]));
          bytes = _mm_or_si128(bytes, _mm_shuffle_epi8(loads[load], mask));
        }
        _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + plane * channel_stride + x), bytes);
      }
    }
  }
  for (; x < pixels; ++x) {
    for (int channel = 0; channel < channels; ++channel)
      dst[channel * channel_stride + x] = row[x * channels + channel];
  }
}

}  // namespace

const ResizeKernels& avx2_resize_kernels() noexcept {
  static constexpr ResizeKernels kernels{"avx2", horizontal, vertical, deinterleave};
  return kernels;
}

}  // namespace lds

#endif
