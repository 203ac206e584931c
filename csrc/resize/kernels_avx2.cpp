// The AVX2 kernels. The horizontal pass computes 16 outputs at a time if their windows are close together; else it uses
// kernels_avx2_blocks.cpp.
#include "resize/avx2.h"

#if defined(__x86_64__)
#include <algorithm>
#include <cstring>

namespace lds {
namespace {

using namespace avx2;
using Layout = HorizontalPass::Layout;

// ---- RGB to lines and back: 16 pixels are 3 vectors, and each contains other bytes of a channel -------------
struct RgbMasks {
  alignas(32) uint8_t shuffle[3][32]{};    // for channel c, after blending: to pixel order
  alignas(32) uint8_t unshuffle[3][32]{};  // for channel c: to its positions in all 3 vectors
  alignas(32) uint8_t select[3][32]{};     // bytes i with i % 3 == c
  constexpr RgbMasks() noexcept {
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < 32; ++i) {
        const int pixel = i % 16;
        shuffle[c][i] = static_cast<uint8_t>((pixel * 3 + c) % 16);
        unshuffle[c][(i & 16) + (pixel * 3 + c) % 16] = static_cast<uint8_t>(pixel);
        select[c][i] = pixel % 3 == c ? 0xff : 0;
      }
    }
  }
};
constexpr RgbMasks kRgb;

// Selects the bytes of a channel: in vector v (bytes 16 v .. 16 v + 15 of 48), byte i belongs to channel (v + i) % 3.
LDS_AVX2_INLINE const uint8_t* select_of(int channel, int vector) { return kRgb.select[(channel + 3 - vector) % 3]; }

LDS_AVX2 void deinterleave(const uint8_t* src, int width, int channels, uint8_t* dst, ptrdiff_t dst_stride) {
  if (channels != 3) {
    kScalarKernels.deinterleave(src, width, channels, dst, dst_stride);
    return;
  }
  int x = 0;
  for (; x + 32 <= width; x += 32, src += 96) {
    const __m256i v0 = load_lanes(src, src + 48), v1 = load_lanes(src + 16, src + 64),
                  v2 = load_lanes(src + 32, src + 80);
    for (int c = 0; c < 3; ++c) {
      const __m256i bytes =
          _mm256_blendv_epi8(_mm256_blendv_epi8(v0, v1, load(select_of(c, 1))), v2, load(select_of(c, 2)));
      store(dst + c * dst_stride + x, _mm256_shuffle_epi8(bytes, load(kRgb.shuffle[c])));
    }
  }
  if (x < width) kScalarKernels.deinterleave(src, width - x, 3, dst + x, dst_stride);
}

LDS_AVX2 void interleave(const uint8_t* src, ptrdiff_t src_stride, int width, int channels, uint8_t* dst) {
  if (channels != 3) {
    kScalarKernels.interleave(src, src_stride, width, channels, dst);
    return;
  }
  int x = 0;
  for (; x + 32 <= width; x += 32, dst += 96) {
    __m256i line[3], out[3];
    for (int c = 0; c < 3; ++c) {
      line[c] = _mm256_shuffle_epi8(load(src + c * src_stride + x), load(kRgb.unshuffle[c]));
    }
    for (int v = 0; v < 3; ++v) {
      out[v] = _mm256_blendv_epi8(_mm256_blendv_epi8(line[0], line[1], load(select_of(1, v))), line[2],
                                  load(select_of(2, v)));
    }
    store(dst, _mm256_permute2x128_si256(out[0], out[1], 0x20));
    store(dst + 32, _mm256_permute2x128_si256(out[2], out[0], 0x30));
    store(dst + 64, _mm256_permute2x128_si256(out[1], out[2], 0x31));
  }
  if (x < width) kScalarKernels.interleave(src + x, src_stride, width - x, 3, dst);
}

// ---- Layout::lanes: 16 outputs of one line from four 16-byte loads ------------------------------------------
// Vector v of a block has outputs 4 v .. 4 v + 3 in its low lane and 8 + 4 v .. in its high lane, so that packing two
// vectors leaves the outputs in order.
constexpr int kMaxLanePairs = 8;

int lane_output(int block, int vector, int lane) { return block * 16 + lane * 8 + vector * 4; }

// The 4 windows of a lane must start so close together that one load contains a pair of taps of each.
bool lanes_possible(const AxisTable& table) {
  if (table.taps > 2 * kMaxLanePairs) return false;
  for (int i = 0; i < table.outputs; i += 4) {
    if (table.first[std::min(i + 3, table.outputs - 1)] - table.first[i] > 14) return false;
  }
  return true;
}

// The source pixel at which the load of the 4 outputs from this one on starts. A single load starts before the end of
// the line, so that nothing past it is read.
int lane_base(const AxisTable& table, int output, bool single_load) {
  const int base = table.first[output] - table.begin;
  return single_load ? std::min(base, table.end - table.begin - 16) : base;
}

bool single_load_possible(const AxisTable& table) {
  if (table.taps > 8 || table.end - table.begin < 16) return false;
  for (int i = 0; i < table.outputs; i += 4) {
    const int last = std::min(i + 3, table.outputs - 1);
    if (table.end_of[last] - table.begin - lane_base(table, i, true) > 16) return false;
  }
  return true;
}

// Prepares the loads, masks and weights of the 4 outputs in one lane of a vector.
void prepare_lane(HorizontalPass& pass, int block, int vector, int lane) {
  const AxisTable& table = pass.table;
  const int pairs = pass.pairs;
  const int from = std::min(lane_output(block, vector, lane), table.outputs - 1);
  const int base = lane_base(table, from, pass.single_load);
  pass.base[block * 4 + vector * 2 + lane] = base;
  for (int o = 0; o < 4; ++o) {
    const int i = lane_output(block, vector, lane) + o;
    if (i >= table.outputs) break;
    const int offset = table.first[i] - table.begin - base;
    uint8_t* mask = &pass.masks[block * 64 + vector * 32 + lane * 16 + o * 4];
    mask[0] = static_cast<uint8_t>(offset);
    mask[2] = static_cast<uint8_t>(offset + 1);
    for (int j = 0; j < table.taps; ++j) {
      const int32_t weight = table.weights[static_cast<size_t>(i) * table.taps + j];
      const size_t pair = (static_cast<size_t>(block) * 2 + vector) * pairs + j / 2;
      const size_t at = pair * 16 + static_cast<size_t>(lane) * 8 + static_cast<size_t>(o) * 2 + j % 2;
      pass.high[at] = static_cast<int16_t>(weight >> 15);
      pass.low[at] = static_cast<int16_t>(weight & 0x7fff);
    }
  }
}

void prepare_lanes(HorizontalPass& pass) {
  const AxisTable& table = pass.table;
  const int blocks = (table.outputs + 15) / 16, pairs = (table.taps + 1) / 2;
  pass.layout = Layout::lanes;
  pass.stride = 0;
  pass.pairs = pairs;
  pass.single_load = single_load_possible(table);
  pass.base.assign(static_cast<size_t>(blocks) * 4, 0);
  pass.masks.assign(static_cast<size_t>(blocks) * 64, 0x80);
  pass.high.assign(static_cast<size_t>(blocks) * 2 * pairs * 16, 0);
  pass.low.assign(pass.high.size(), 0);
  for (int block = 0; block < blocks; ++block) {
    for (int part = 0; part < 4; ++part) prepare_lane(pass, block, part / 2, part % 2);
  }
}

// kPairs > 0: the number of pairs, all in one load. 0: `pairs` pairs, each with its own load.
template <int kPairs>
LDS_AVX2_INLINE __m256i lane_sums(const uint8_t* low_lane, const uint8_t* high_lane, __m256i mask,
                                  const int16_t* weights_high, const int16_t* weights_low, int pairs) {
  const int count = kPairs ? kPairs : pairs;
  __m256i bytes = load_lanes(low_lane, high_lane);
  __m256i words = _mm256_shuffle_epi8(bytes, mask);
  __m256i high = _mm256_madd_epi16(words, load(weights_high));
  __m256i low = _mm256_madd_epi16(words, load(weights_low));
  for (ptrdiff_t j = 1; j < count; ++j) {
    if (kPairs) {
      words = _mm256_shuffle_epi8(bytes, _mm256_add_epi8(mask, _mm256_set1_epi8(static_cast<char>(2 * j))));
    } else {
      words = _mm256_shuffle_epi8(load_lanes(low_lane + 2 * j, high_lane + 2 * j), mask);
    }
    high = _mm256_add_epi32(high, _mm256_madd_epi16(words, load(weights_high + j * 16)));
    low = _mm256_add_epi32(low, _mm256_madd_epi16(words, load(weights_low + j * 16)));
  }
  return finish(join(high, low));
}

template <int kPairs>
LDS_AVX2 void horizontal_lanes(const HorizontalPass& pass, const uint8_t* src, ptrdiff_t src_stride, int block_begin,
                               int block_end, uint8_t* dst, ptrdiff_t dst_stride) {
  const int pairs = kPairs ? kPairs : pass.pairs;
  const ptrdiff_t half = ptrdiff_t{pairs} * 16;  // the weights of one vector
  for (ptrdiff_t block = block_begin; block < block_end; ++block) {
    const int* base = &pass.base[static_cast<size_t>(block) * 4];
    const uint8_t* masks = &pass.masks[static_cast<size_t>(block) * 64];
    const int16_t* high = &pass.high[static_cast<size_t>(block) * 2 * pairs * 16];
    const int16_t* low = &pass.low[static_cast<size_t>(block) * 2 * pairs * 16];
    for (int c = 0; c < pass.channels; ++c) {
      const uint8_t* line = src + c * src_stride;
      const __m256i a = lane_sums<kPairs>(line + base[0], line + base[1], load(masks), high, low, pairs);
      const __m256i b =
          lane_sums<kPairs>(line + base[2], line + base[3], load(masks + 32), high + half, low + half, pairs);
      const __m256i words = _mm256_packs_epi32(a, b);
      const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(words, words), 0x08);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + c * dst_stride + block * 16), _mm256_castsi256_si128(bytes));
    }
  }
}

using LaneFunction = void (*)(const HorizontalPass&, const uint8_t*, ptrdiff_t, int, int, uint8_t*, ptrdiff_t);
LaneFunction lane_function(const HorizontalPass& pass) {
  if (pass.single_load) {
    switch (pass.pairs) {
      case 1: return horizontal_lanes<1>;
      case 2: return horizontal_lanes<2>;
      case 3: return horizontal_lanes<3>;
      case 4: return horizontal_lanes<4>;
      default: break;
    }
  }
  return horizontal_lanes<0>;
}

// ---- the pass ------------------------------------------------------------------------------------------------
void prepare(HorizontalPass& pass) {
  const AxisTable& table = pass.table;
  if (lanes_possible(table)) {
    prepare_lanes(pass);
  } else {
    prepare_blocks(pass);
  }
  // space for a planar row, or for the end of an interleaved one, with padding that may be read
  const size_t width = table.end - table.begin, stride = pass.stride;
  const size_t needed = (width + 2 * stride + size_t{2} * kPad) * pass.channels;
  if (pass.scratch.size() < needed) pass.scratch.resize(needed);
}

// Blocks whose loads would pass the end of the line read a copy of its end in the scratch.
void horizontal_one_line(HorizontalPass& pass, const uint8_t* line, uint8_t* dst) {
  const int width = pass.table.end - pass.table.begin;
  const LaneFunction function = lane_function(pass);
  const int blocks = static_cast<int>(pass.base.size()) / 4, reach = 16 + 2 * (pass.pairs - 1);
  int safe = blocks;
  while (!pass.single_load && safe > 0 && pass.base[safe * 4 - 1] + reach > width) --safe;
  function(pass, line, 0, 0, safe, dst, 0);
  if (safe == blocks) return;
  const int from = pass.base[static_cast<size_t>(safe) * 4];
  std::memcpy(pass.scratch.data() + from, line + from, width - from);
  function(pass, pass.scratch.data(), 0, safe, blocks, dst, 0);
}

void horizontal_blocks(HorizontalPass& pass, const uint8_t* row, uint8_t* dst, ptrdiff_t dst_stride) {
  const AxisTable& table = pass.table;
  const int reach = pass.stride + 16 / pass.channels + 1;  // pixels read from first[i] on, at most
  int safe = table.outputs;
  while (safe > 0 && table.first[safe - 1] + reach > table.end) --safe;
  safe = safe / 4 * 4;
  run_blocks(pass, row, table.begin, 0, safe, dst, dst_stride);
  if (safe == table.outputs) return;
  const int from = table.first[safe];
  std::memcpy(pass.scratch.data(), row + static_cast<ptrdiff_t>(from - table.begin) * pass.channels,
              static_cast<size_t>(table.end - from) * pass.channels);
  run_blocks(pass, pass.scratch.data(), from, safe, table.outputs, dst, dst_stride);
}

void horizontal(HorizontalPass& pass, const uint8_t* row, uint8_t* dst, ptrdiff_t dst_stride) {
  const int width = pass.table.end - pass.table.begin;
  if (pass.layout == Layout::blocks && pass.channels != 2) {
    horizontal_blocks(pass, row, dst, dst_stride);
  } else if (pass.channels == 1) {
    horizontal_one_line(pass, row, dst);
  } else {
    const ptrdiff_t stride = width + pass.stride + kPad;
    deinterleave(row, width, pass.channels, pass.scratch.data(), stride);
    if (pass.layout == Layout::lanes) {
      const int blocks = static_cast<int>(pass.base.size()) / 4;
      lane_function(pass)(pass, pass.scratch.data(), stride, 0, blocks, dst, dst_stride);
    } else {
      for (int c = 0; c < 2; ++c) {
        horizontal_line(pass, pass.scratch.data() + c * stride, pass.table.begin, 0, pass.table.outputs,
                        dst + c * dst_stride);
      }
    }
  }
}

// ---- vertical ------------------------------------------------------------------------------------------------
template <int kPairs>
LDS_AVX2_INLINE __m256i column_bytes(const uint8_t* const* rows, const int16_t* high, const int16_t* low, int pairs,
                                     int taps, int x) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i sum_high[4] = {zero, zero, zero, zero}, sum_low[4] = {zero, zero, zero, zero};
  const int count = kPairs ? kPairs : pairs;
  const ptrdiff_t last = taps - 1;
  for (ptrdiff_t j = 0; j < count; ++j) {
    const __m256i a = load(rows[2 * j] + x), b = load(rows[std::min(2 * j + 1, last)] + x);
    const __m256i ab0 = _mm256_unpacklo_epi8(a, b), ab1 = _mm256_unpackhi_epi8(a, b);
    const __m256i words[4] = {_mm256_unpacklo_epi8(ab0, zero), _mm256_unpackhi_epi8(ab0, zero),
                              _mm256_unpacklo_epi8(ab1, zero), _mm256_unpackhi_epi8(ab1, zero)};
    const __m256i weight_high = broadcast4(high + 2 * j), weight_low = broadcast4(low + 2 * j);
    for (int k = 0; k < 4; ++k) {
      sum_high[k] = _mm256_add_epi32(sum_high[k], _mm256_madd_epi16(words[k], weight_high));
      sum_low[k] = _mm256_add_epi32(sum_low[k], _mm256_madd_epi16(words[k], weight_low));
    }
  }
  for (int k = 0; k < 4; ++k) sum_high[k] = finish(join(sum_high[k], sum_low[k]));
  return _mm256_packus_epi16(_mm256_packs_epi32(sum_high[0], sum_high[1]),
                             _mm256_packs_epi32(sum_high[2], sum_high[3]));
}

template <int kPairs>
LDS_AVX2 void vertical_pairs(const VerticalPass& pass, int i, const uint8_t* const* rows, uint8_t* dst, int n) {
  const int16_t* high = &pass.high[static_cast<size_t>(i) * pass.pairs * 2];
  const int16_t* low = &pass.low[static_cast<size_t>(i) * pass.pairs * 2];
  const int taps = pass.table.taps;
  int x = 0;
  for (; x + 32 <= n; x += 32) store(dst + x, column_bytes<kPairs>(rows, high, low, pass.pairs, taps, x));
  if (x < n) {
    alignas(32) uint8_t tail[32];
    store(tail, column_bytes<kPairs>(rows, high, low, pass.pairs, taps, x));
    std::memcpy(dst + x, tail, n - x);
  }
}

void vertical(const VerticalPass& pass, int i, const uint8_t* const* rows, uint8_t* dst, int n) {
  switch (pass.pairs) {
    case 1: vertical_pairs<1>(pass, i, rows, dst, n); break;
    case 2: vertical_pairs<2>(pass, i, rows, dst, n); break;
    case 3: vertical_pairs<3>(pass, i, rows, dst, n); break;
    default: vertical_pairs<0>(pass, i, rows, dst, n); break;
  }
}

}  // namespace

const Kernels kAvx2Kernels = {"avx2", deinterleave, interleave, prepare, split_pairs, horizontal, vertical};

}  // namespace lds
#endif
