// The horizontal pass of the AVX2 kernels for wide windows: one output at a time.
#include "resize/avx2.h"

#if defined(__x86_64__)
#include <algorithm>
#include <cstring>

namespace lds {
namespace {

using namespace avx2;

// 3 and 4 channels: 4 pixels per step. The bytes are shuffled to r0r1 r2r3 g0g1 g2g3 | b0b1 b2b3 a0a1 a2a3, so that one
// broadcast of 8 bytes gives the weights of 4 taps.
template <int kChannels>
LDS_AVX2_INLINE __m256i pixel_mask() {
  alignas(32) uint8_t mask[32];
  for (int c = 0; c < 4; ++c) {
    for (int tap = 0; tap < 4; ++tap) {
      mask[c * 8 + tap * 2] = static_cast<uint8_t>(c < kChannels ? tap * kChannels + c : 0x80);
      mask[c * 8 + tap * 2 + 1] = 0x80;
    }
  }
  return load(mask);
}

// kSteps: the number of steps of 4 taps, a constant so that the loop is unrolled; 0: pass.stride / 4.
template <int kChannels, int kSteps>
LDS_AVX2_INLINE __m256i pixel_sums(const HorizontalPass& pass, const uint8_t* src, int i, __m256i mask) {
  const int steps = kSteps ? kSteps : pass.stride / 4;
  const int16_t* weights_high = &pass.high[static_cast<size_t>(i) * pass.stride];
  const int16_t* weights_low = &pass.low[static_cast<size_t>(i) * pass.stride];
  __m256i high = _mm256_setzero_si256(), low = high;
#pragma GCC unroll 8
  for (int j = 0; j < steps; ++j) {
    const __m128i bytes = load16(src + ptrdiff_t{j} * 4 * kChannels);
    const __m256i words = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), mask);
    high = _mm256_add_epi32(high, _mm256_madd_epi16(words, broadcast8(weights_high + ptrdiff_t{j} * 4)));
    low = _mm256_add_epi32(low, _mm256_madd_epi16(words, broadcast8(weights_low + ptrdiff_t{j} * 4)));
  }
  return join(high, low);
}

template <int kChannels, int kSteps>
LDS_AVX2 void horizontal_pixels(const HorizontalPass& pass, const uint8_t* src, int origin, int begin, int end,
                                uint8_t* dst, ptrdiff_t dst_stride) {
  const AxisTable& table = pass.table;
  const __m256i mask = pixel_mask<kChannels>();
  const auto sums = [&](int i) __attribute__((target("avx2"), always_inline)) {
    i = std::min(i, end - 1);
    return pixel_sums<kChannels, kSteps>(pass, src + static_cast<ptrdiff_t>(table.first[i] - origin) * kChannels, i,
                                         mask);
  };
  const __m256i order = _mm256_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, -1, -1, -1, -1, -1, -1, -1, -1, 0, 2, 4, 6, 1, 3, 5, 7,
                                         -1, -1, -1, -1, -1, -1, -1, -1);
  for (int i = begin; i < end; i += 4) {
    const __m256i s0 = sums(i), s1 = sums(i + 1), s2 = sums(i + 2), s3 = sums(i + 3);
    const __m256i s01 = finish(_mm256_hadd_epi32(s0, s1)), s23 = finish(_mm256_hadd_epi32(s2, s3));
    const __m256i words = _mm256_packs_epi32(s01, s23);  // r0 g0 r1 g1 r2 g2 r3 g3 | b0 a0 ...
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_packus_epi16(words, words), order);
    const uint64_t rg = static_cast<uint64_t>(_mm256_extract_epi64(bytes, 0));
    const uint64_t ba = static_cast<uint64_t>(_mm256_extract_epi64(bytes, 2));
    const uint32_t lines[4] = {static_cast<uint32_t>(rg), static_cast<uint32_t>(rg >> 32), static_cast<uint32_t>(ba),
                               static_cast<uint32_t>(ba >> 32)};
    for (int c = 0; c < kChannels; ++c) std::memcpy(dst + c * dst_stride + i, &lines[c], 4);
  }
}

using PixelFunction = void (*)(const HorizontalPass&, const uint8_t*, int, int, int, uint8_t*, ptrdiff_t);
PixelFunction rgb_function(int steps) {
  switch (steps) {  // photographs that become 5 to 16 times smaller
    case 3: return horizontal_pixels<3, 3>;
    case 4: return horizontal_pixels<3, 4>;
    case 5: return horizontal_pixels<3, 5>;
    case 6: return horizontal_pixels<3, 6>;
    case 7: return horizontal_pixels<3, 7>;
    case 8: return horizontal_pixels<3, 8>;
    default: return horizontal_pixels<3, 0>;
  }
}

// 1 channel: 16 taps per step.
LDS_AVX2_INLINE int32_t line_sum(const HorizontalPass& pass, const uint8_t* src, int i) {
  const int16_t* weights_high = &pass.high[static_cast<size_t>(i) * pass.stride];
  const int16_t* weights_low = &pass.low[static_cast<size_t>(i) * pass.stride];
  __m256i high = _mm256_setzero_si256(), low = high;
  for (int j = 0; j < pass.stride; j += 16) {
    const __m256i words = _mm256_cvtepu8_epi16(load16(src + j));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(words, load(weights_high + j)));
    low = _mm256_add_epi32(low, _mm256_madd_epi16(words, load(weights_low + j)));
  }
  const __m256i sum8 = join(high, low);
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sum8), _mm256_extracti128_si256(sum8, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}

}  // namespace

namespace avx2 {

LDS_AVX2 void horizontal_line(const HorizontalPass& pass, const uint8_t* src, int origin, int begin, int end,
                              uint8_t* dst) {
  for (int i = begin; i < end; ++i) {
    const int32_t sum = line_sum(pass, src + (pass.table.first[i] - origin), i) + (1 << (kPrecisionBits - 1));
    dst[i] = static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
  }
}

void prepare_blocks(HorizontalPass& pass) {
  const int step = pass.channels >= 3 ? 4 : 16;
  pass.layout = HorizontalPass::Layout::blocks;
  pass.stride = (pass.table.taps + step - 1) / step * step;
  split_weights(pass.table, pass.stride, pass.high, pass.low);
}

void run_blocks(const HorizontalPass& pass, const uint8_t* src, int origin, int begin, int end, uint8_t* dst,
                ptrdiff_t dst_stride) {
  if (begin >= end) return;
  switch (pass.channels) {
    case 3: rgb_function(pass.stride / 4)(pass, src, origin, begin, end, dst, dst_stride); break;
    case 4: horizontal_pixels<4, 0>(pass, src, origin, begin, end, dst, dst_stride); break;
    default: horizontal_line(pass, src, origin, begin, end, dst); break;
  }
}

}  // namespace avx2
}  // namespace lds
#endif
