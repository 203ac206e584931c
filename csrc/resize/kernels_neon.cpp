// The kernels for NEON, which every aarch64 has. Its 32-bit multiply-adds are exact, so weights are not split.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <algorithm>
#include <cstring>

#include "resize/kernels.h"

namespace lds {
namespace {

constexpr int kTaps = 4;  // taps per step of the horizontal pass: one vector of weights

// Rounds, shifts and clips four sums to 16 bits; to_bytes() clips them to bytes.
uint16x4_t finish(int32x4_t sum) {
  const int32x4_t half = vdupq_n_s32(1 << (kPrecisionBits - 1));
  return vqmovun_s32(vshrq_n_s32(vaddq_s32(sum, half), kPrecisionBits));
}
uint8x8_t to_bytes(int32x4_t first, int32x4_t second) {
  return vqmovn_u16(vcombine_u16(finish(first), finish(second)));
}

// ---- pixels to lines and back, by interleaving loads and stores ----------------------------------------------
void deinterleave(const uint8_t* src, int width, int channels, uint8_t* dst, ptrdiff_t dst_stride) {
  int x = 0;
  if (channels == 3) {
    for (; x + 16 <= width; x += 16) {
      const uint8x16x3_t pixels = vld3q_u8(src + ptrdiff_t{x} * 3);
      for (int c = 0; c < 3; ++c) vst1q_u8(dst + c * dst_stride + x, pixels.val[c]);
    }
  }
  if (x < width) kScalarKernels.deinterleave(src + ptrdiff_t{x} * channels, width - x, channels, dst + x, dst_stride);
}

void interleave(const uint8_t* const* lines, int width, int channels, uint8_t* dst) {
  int x = 0;
  if (channels == 3) {
    for (; x + 16 <= width; x += 16) {
      const uint8x16x3_t pixels = {{vld1q_u8(lines[0] + x), vld1q_u8(lines[1] + x), vld1q_u8(lines[2] + x)}};
      vst3q_u8(dst + ptrdiff_t{x} * 3, pixels);
    }
  }
  const uint8_t* const rest[4] = {lines[0] + x, channels > 1 ? lines[1] + x : nullptr,
                                  channels > 2 ? lines[2] + x : nullptr, channels > 3 ? lines[3] + x : nullptr};
  if (x < width) kScalarKernels.interleave(rest, width - x, channels, dst + ptrdiff_t{x} * channels);
}

// ---- horizontal ----------------------------------------------------------------------------------------------
void prepare_vertical(VerticalPass&) {}

void prepare(HorizontalPass& pass) {
  const AxisTable& table = pass.table;
  pass.layout = HorizontalPass::Layout::blocks;
  pass.stride = (table.taps + kTaps - 1) / kTaps * kTaps;
  pass.whole.assign(static_cast<size_t>(table.outputs) * pass.stride, 0);
  for (int i = 0; i < table.outputs; ++i) {
    std::copy_n(&table.weights[static_cast<size_t>(i) * table.taps], table.taps,
                &pass.whole[static_cast<size_t>(i) * pass.stride]);
  }
  // space for the end of a row, with padding that may be read
  const size_t needed = static_cast<size_t>(table.end - table.begin + pass.stride + kPad) * pass.channels;
  if (pass.scratch.size() < needed) pass.scratch.resize(needed);
}

// Selects one channel of four pixels, with each byte widened to 32 bits.
template <int kChannels>
uint8x16_t channel_mask(int channel) {
  uint8_t mask[16];
  std::fill(mask, mask + 16, uint8_t{0xff});  // an index out of range gives 0
  for (ptrdiff_t tap = 0; tap < kTaps; ++tap) mask[tap * 4] = static_cast<uint8_t>(tap * kChannels + channel);
  return vld1q_u8(mask);
}

// Computes outputs [begin, end), four at a time. `src` points to source pixel `origin`. Reads up to 16 bytes past the
// end of the windows.
template <int kChannels>
void horizontal_pixels(const HorizontalPass& pass, const uint8_t* src, int origin, int begin, int end, uint8_t* dst,
                       ptrdiff_t dst_stride) {
  uint8x16_t masks[kChannels];
  for (int c = 0; c < kChannels; ++c) masks[c] = channel_mask<kChannels>(c);
  for (int i = begin; i < end; i += 4) {
    int32x4_t sums[kChannels][4];
    for (int o = 0; o < 4; ++o) {
      const int output = std::min(i + o, end - 1);
      const uint8_t* pixels = src + static_cast<ptrdiff_t>(pass.table.first[output] - origin) * kChannels;
      const int32_t* weights = &pass.whole[static_cast<size_t>(output) * pass.stride];
      for (int c = 0; c < kChannels; ++c) sums[c][o] = vdupq_n_s32(0);
      for (int j = 0; j < pass.stride; j += kTaps) {
        const uint8x16_t bytes = vld1q_u8(pixels + ptrdiff_t{j} * kChannels);
        const int32x4_t weight = vld1q_s32(weights + j);
        for (int c = 0; c < kChannels; ++c) {
          sums[c][o] = vmlaq_s32(sums[c][o], vreinterpretq_s32_u8(vqtbl1q_u8(bytes, masks[c])), weight);
        }
      }
    }
    for (int c = 0; c < kChannels; ++c) {
      const int32x4_t four = vpaddq_s32(vpaddq_s32(sums[c][0], sums[c][1]), vpaddq_s32(sums[c][2], sums[c][3]));
      const uint32x2_t bytes = vreinterpret_u32_u8(to_bytes(four, four));
      const uint32_t value = vget_lane_u32(bytes, 0);
      std::memcpy(dst + c * dst_stride + i, &value, 4);
    }
  }
}

void run(const HorizontalPass& pass, const uint8_t* src, int origin, int begin, int end, uint8_t* dst,
         ptrdiff_t dst_stride) {
  switch (pass.channels) {
    case 1: horizontal_pixels<1>(pass, src, origin, begin, end, dst, dst_stride); break;
    case 2: horizontal_pixels<2>(pass, src, origin, begin, end, dst, dst_stride); break;
    case 3: horizontal_pixels<3>(pass, src, origin, begin, end, dst, dst_stride); break;
    default: horizontal_pixels<4>(pass, src, origin, begin, end, dst, dst_stride); break;
  }
}

// Outputs whose loads would pass the end of the row read a copy of its end in the scratch.
void horizontal(HorizontalPass& pass, const uint8_t* row, uint8_t* dst, ptrdiff_t dst_stride) {
  const AxisTable& table = pass.table;
  const int reach = pass.stride + 16 / pass.channels + 1;  // pixels read from first[i] on, at most
  int safe = table.outputs;
  while (safe > 0 && table.first[safe - 1] + reach > table.end) --safe;
  safe = safe / 4 * 4;
  run(pass, row, table.begin, 0, safe, dst, dst_stride);
  if (safe == table.outputs) return;
  const int from = table.first[safe];
  std::memcpy(pass.scratch.data(), row + static_cast<ptrdiff_t>(from - table.begin) * pass.channels,
              static_cast<size_t>(table.end - from) * pass.channels);
  run(pass, pass.scratch.data(), from, safe, table.outputs, dst, dst_stride);
}

// ---- vertical ------------------------------------------------------------------------------------------------
uint8x16_t column_bytes(const int32_t* weights, int taps, const uint8_t* const* rows, int x) {
  int32x4_t sums[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
  for (int j = 0; j < taps; ++j) {
    const uint8x16_t bytes = vld1q_u8(rows[j] + x);
    const uint16x8_t words[2] = {vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes)};
    for (ptrdiff_t half = 0; half < 2; ++half) {
      sums[2 * half] =
          vmlaq_n_s32(sums[2 * half], vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words[half]))), weights[j]);
      sums[2 * half + 1] =
          vmlaq_n_s32(sums[2 * half + 1], vreinterpretq_s32_u32(vmovl_high_u16(words[half])), weights[j]);
    }
  }
  return vcombine_u8(to_bytes(sums[0], sums[1]), to_bytes(sums[2], sums[3]));
}

void vertical(const VerticalPass& pass, int i, const uint8_t* const* rows, uint8_t* dst, int n) {
  const int taps = pass.table.taps;
  const int32_t* weights = &pass.table.weights[static_cast<size_t>(i) * taps];
  int x = 0;
  for (; x + 16 <= n; x += 16) vst1q_u8(dst + x, column_bytes(weights, taps, rows, x));
  if (x < n) {
    uint8_t tail[16];
    vst1q_u8(tail, column_bytes(weights, taps, rows, x));
    std::memcpy(dst + x, tail, static_cast<size_t>(n - x));
  }
}

}  // namespace

const Kernels kNeonKernels = {"neon", deinterleave, interleave, prepare, prepare_vertical, horizontal, vertical};

}  // namespace lds
#endif
