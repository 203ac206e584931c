// The AVX-512 kernels, which use instructions for single bytes. A weight is split into three signed bytes, high * 2^16
// + middle * 2^8 + low, so that vpdpbusd adds the products of four taps at once. The three sums, combined modulo 2^32,
// are exactly Pillow's sum. Wide windows, and conversions between layouts, are left to the AVX2 kernels.
#include "resize/kernels.h"

#if defined(__x86_64__)
#include <algorithm>
#include <cstring>

#include "common/avx512.h"

namespace lds {
namespace {

using Layout = HorizontalPass::Layout;

constexpr int kBlock = 16;   // outputs of one vector of sums
constexpr int kSource = 64;  // pixels of one load, which contains the windows of a block
constexpr int kMaxQuads = 4;
constexpr int kRound = 1 << (kPrecisionBits - 1);

LDS_AVX512_BYTES_INLINE __m512i load(const void* p) { return _mm512_loadu_si512(p); }
LDS_AVX512_BYTES_INLINE void store(void* p, __m512i v) { _mm512_storeu_si512(p, v); }

// ---- weights ---------------------------------------------------------------------------------------------------
bool weights_fit_bytes(const AxisTable& table) {
  constexpr int32_t kLimit = 127 << 16;
  return std::all_of(table.weights.begin(), table.weights.end(),
                     [](int32_t weight) { return weight > -kLimit && weight < kLimit; });
}

// Writes the high, the middle and the low bytes of the four weights of a quad. The lower bytes are signed too, so that
// what is above them is rounded, not truncated.
LDS_AVX512_BYTES_INLINE void split_quad(const AxisTable& table, int output, int quad, uint8_t* high, ptrdiff_t stride) {
  const int32_t* const weights = &table.weights[static_cast<size_t>(output) * table.taps];
  const int taps = std::min(table.taps - quad * 4, 4);
  const __m128i whole = _mm_maskz_loadu_epi32(static_cast<__mmask8>((1 << taps) - 1), weights + ptrdiff_t{quad} * 4);
  const __m128i order = _mm_set_epi32(0, 0, 0, 0x0c080400);
  const __m128i parts[3] = {_mm_srli_epi32(_mm_add_epi32(whole, _mm_set1_epi32(0x8080)), 16),
                            _mm_srli_epi32(_mm_add_epi32(whole, _mm_set1_epi32(0x80)), 8), whole};
  for (ptrdiff_t part = 0; part < 3; ++part) {
    const int32_t bytes = _mm_cvtsi128_si32(_mm_shuffle_epi8(parts[part], order));
    std::memcpy(high + part * stride, &bytes, 4);
  }
}

// ---- horizontal: 16 outputs of one line from one load ------------------------------------------------------------
// The pixel, relative to the first one that the pass needs, at which the load of a block starts: before the end of the
// line, so that nothing past it is read.
int block_base(const AxisTable& table, int block) {
  const int width = table.end - table.begin;
  return std::min(table.first[static_cast<size_t>(block) * kBlock] - table.begin, std::max(width - kSource, 0));
}

bool windows_possible(const AxisTable& table) {
  if (table.taps > 4 * kMaxQuads || !weights_fit_bytes(table)) return false;
  for (int block = 0; block * kBlock < table.outputs; ++block) {
    const int last = std::min((block + 1) * kBlock, table.outputs) - 1;
    if (table.end_of[last] - table.begin - block_base(table, block) > kSource) return false;
  }
  return true;
}

LDS_AVX512_BYTES void prepare_windows(HorizontalPass& pass) {
  const AxisTable& table = pass.table;
  const int blocks = (table.outputs + kBlock - 1) / kBlock;
  pass.layout = Layout::windows;
  pass.stride = 0;
  pass.quads = (table.taps + 3) / 4;
  pass.base.resize(static_cast<size_t>(blocks));
  pass.windows.assign(static_cast<size_t>(blocks) * (1 + 3 * pass.quads), CacheLine{});
  CacheLine* lines = pass.windows.data();
  for (int block = 0; block < blocks; ++block, lines += 1 + 3 * pass.quads) {
    pass.base[block] = block_base(table, block);
    for (int i = block * kBlock; i < std::min((block + 1) * kBlock, table.outputs); ++i) {
      const ptrdiff_t at = ptrdiff_t{i % kBlock} * 4;
      const auto first = static_cast<uint32_t>(table.first[i] - table.begin - pass.base[block]);
      const uint32_t indices = first * 0x01010101U + 0x03020100U;  // below 256: taps past the window wrap later
      std::memcpy(lines->bytes + at, &indices, 4);
      for (int quad = 0; quad < pass.quads; ++quad) {
        split_quad(table, i, quad, lines[1 + quad].bytes + at, ptrdiff_t{pass.quads} * kSource);
      }
    }
  }
  const size_t needed = static_cast<size_t>(table.end - table.begin + 2 * kPad) * pass.channels;
  if (pass.scratch.size() < needed) pass.scratch.resize(needed);
}

template <int kQuads>
LDS_AVX512_BYTES_INLINE __m512i window_sums(const uint8_t* source, const CacheLine* lines) {
  const __m512i pixels = load(source);
  const __m512i indices = load(lines++);
  __m512i taps[kQuads];
  for (int quad = 0; quad < kQuads; ++quad) {
    taps[quad] =
        _mm512_permutexvar_epi8(_mm512_add_epi8(indices, _mm512_set1_epi8(static_cast<char>(4 * quad))), pixels);
  }
  __m512i sums = _mm512_set1_epi32(kRound >> 16);
  for (int part = 0; part < 3; ++part) {
    if (part > 0) sums = _mm512_slli_epi32(sums, 8);
    for (int quad = 0; quad < kQuads; ++quad) sums = _mm512_dpbusd_epi32(sums, taps[quad], load(lines++));
  }
  return _mm512_srai_epi32(sums, kPrecisionBits);
}

template <int kQuads>
LDS_AVX512_BYTES void horizontal_line(const HorizontalPass& pass, const uint8_t* line, uint8_t* dst) {
  constexpr ptrdiff_t kLines = 1 + 3 * kQuads;
  const int* base = pass.base.data();
  const CacheLine* lines = pass.windows.data();
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  auto blocks = static_cast<int>(pass.base.size());
  for (; blocks >= 4; blocks -= 4, base += 4, lines += 4 * kLines, dst += ptrdiff_t{4} * kBlock) {
    const __m512i a = window_sums<kQuads>(line + base[0], lines);
    const __m512i b = window_sums<kQuads>(line + base[1], lines + kLines);
    const __m512i c = window_sums<kQuads>(line + base[2], lines + 2 * kLines);
    const __m512i d = window_sums<kQuads>(line + base[3], lines + 3 * kLines);
    const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
    store(dst, _mm512_permutexvar_epi32(order, bytes));
  }
  for (; blocks > 0; --blocks, ++base, lines += kLines, dst += kBlock) {
    const __m512i sums = _mm512_max_epi32(window_sums<kQuads>(line + *base, lines), _mm512_setzero_si512());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst), _mm512_cvtusepi32_epi8(sums));
  }
}

using LineFunction = void (*)(const HorizontalPass&, const uint8_t*, uint8_t*);
constexpr LineFunction kLineFunctions[kMaxQuads] = {horizontal_line<1>, horizontal_line<2>, horizontal_line<3>,
                                                    horizontal_line<4>};

void prepare(HorizontalPass& pass) {
  windows_possible(pass.table) ? prepare_windows(pass) : kAvx2Kernels.prepare(pass);
}

void horizontal(HorizontalPass& pass, const uint8_t* row, uint8_t* dst, ptrdiff_t dst_stride) {
  if (pass.layout != Layout::windows) {
    kAvx2Kernels.horizontal(pass, row, dst, dst_stride);
    return;
  }
  const LineFunction function = kLineFunctions[pass.quads - 1];
  const int width = pass.table.end - pass.table.begin;
  uint8_t* const scratch = pass.scratch.data();
  if (pass.channels == 1 && width >= kSource) {
    function(pass, row, dst);
    return;
  }
  const ptrdiff_t stride = ptrdiff_t{width} + kPad;
  kAvx2Kernels.deinterleave(row, width, pass.channels, scratch, stride);
  for (int c = 0; c < pass.channels; ++c) function(pass, scratch + c * stride, dst + c * dst_stride);
}

// ---- vertical ------------------------------------------------------------------------------------------------
LDS_AVX512_BYTES void prepare_vertical(VerticalPass& pass) {
  const AxisTable& table = pass.table;
  split_pairs(pass);
  const bool quads = table.taps > 2 && weights_fit_bytes(table);
  pass.quads = quads ? (table.taps + 3) / 4 : 0;
  pass.bytes.resize(static_cast<size_t>(table.outputs) * pass.quads * 3);
  int32_t* bytes = pass.bytes.data();
  for (int i = 0; i < table.outputs; ++i) {
    for (int quad = 0; quad < pass.quads; ++quad, bytes += 3) {
      split_quad(table, i, quad, reinterpret_cast<uint8_t*>(bytes), sizeof *bytes);
    }
  }
}

LDS_AVX512_BYTES_INLINE __m512i packed(const __m512i (&sums)[4]) {
  return _mm512_packus_epi16(_mm512_packs_epi32(sums[0], sums[1]), _mm512_packs_epi32(sums[2], sums[3]));
}

// Columns [x, x + 64) of an output row. Function: of the first column.
template <class Columns>
LDS_AVX512_BYTES_INLINE void each_column(uint8_t* dst, int n, Columns columns) {
  int x = 0;
  for (; x + 64 <= n; x += 64) store(dst + x, columns(x));
  if (x < n) _mm512_mask_storeu_epi8(dst + x, ~__mmask64{0} >> (64 - (n - x)), columns(x));
}

// One or two taps: the weights are split into two halves of 16 bits, as for AVX2.
LDS_AVX512_BYTES void vertical_pair(const VerticalPass& pass, int i, const uint8_t* const* rows, uint8_t* dst, int n) {
  const uint8_t *const row0 = rows[0], *const row1 = rows[pass.table.taps - 1];
  int32_t pair_high = 0, pair_low = 0;
  std::memcpy(&pair_high, &pass.high[static_cast<size_t>(i) * 2], 4);
  std::memcpy(&pair_low, &pass.low[static_cast<size_t>(i) * 2], 4);
  const __m512i high = _mm512_set1_epi32(pair_high), low = _mm512_set1_epi32(pair_low);
  const __m512i zero = _mm512_setzero_si512(), round = _mm512_set1_epi32(kRound >> 15);
  each_column(dst, n, [&](int x) __attribute__((target(LDS_AVX512_BYTES_TARGETS), always_inline)) {
    const __m512i a = load(row0 + x), b = load(row1 + x);
    const __m512i ab[2] = {_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)};
    __m512i sums[4];
    for (int k = 0; k < 4; ++k) {
      const __m512i words = k % 2 == 0 ? _mm512_unpacklo_epi8(ab[k / 2], zero) : _mm512_unpackhi_epi8(ab[k / 2], zero);
      const __m512i upper = _mm512_slli_epi32(_mm512_dpwssd_epi32(round, words, high), 15);
      sums[k] = _mm512_srai_epi32(_mm512_dpwssd_epi32(upper, words, low), kPrecisionBits);
    }
    return packed(sums);
  });
}

// Bytes of four rows, so that each 32 bits are a column.
LDS_AVX512_BYTES_INLINE void interleave_four(const uint8_t* const* rows, int x, __m512i (&columns)[4]) {
  const __m512i a = load(rows[0] + x), b = load(rows[1] + x), c = load(rows[2] + x), d = load(rows[3] + x);
  const __m512i ab[2] = {_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)};
  const __m512i cd[2] = {_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d)};
  for (ptrdiff_t k = 0; k < 2; ++k) {
    columns[2 * k] = _mm512_unpacklo_epi16(ab[k], cd[k]);
    columns[2 * k + 1] = _mm512_unpackhi_epi16(ab[k], cd[k]);
  }
}

// Adds a quad's products. `start` is the rounding of the first one, in units of 2^16.
LDS_AVX512_BYTES_INLINE __m512i quad_sum(__m512i columns, const int32_t* bytes, int start) {
  __m512i sum = _mm512_dpbusd_epi32(_mm512_set1_epi32(start), columns, _mm512_set1_epi32(bytes[0]));
  sum = _mm512_dpbusd_epi32(_mm512_slli_epi32(sum, 8), columns, _mm512_set1_epi32(bytes[1]));
  return _mm512_dpbusd_epi32(_mm512_slli_epi32(sum, 8), columns, _mm512_set1_epi32(bytes[2]));
}

// kOne: there is only one quad.
template <bool kOne>
LDS_AVX512_BYTES void vertical_quads(const VerticalPass& pass, int i, const uint8_t* const* rows, uint8_t* dst, int n) {
  const int quads = kOne ? 1 : pass.quads;
  const ptrdiff_t last = pass.table.taps - 1;
  const int32_t* const bytes = &pass.bytes[static_cast<size_t>(i) * quads * 3];
  each_column(dst, n, [&](int x) __attribute__((target(LDS_AVX512_BYTES_TARGETS), always_inline)) {
    __m512i sums[4];
    for (int quad = 0; quad < quads; ++quad) {
      const ptrdiff_t row = ptrdiff_t{quad} * 4;  // rows past the window have weights of 0
      const uint8_t* const four[4] = {rows[row], rows[std::min(row + 1, last)], rows[std::min(row + 2, last)],
                                      rows[std::min(row + 3, last)]};
      __m512i columns[4];
      interleave_four(four, x, columns);
      for (int k = 0; k < 4; ++k) {
        const __m512i sum = quad_sum(columns[k], bytes + ptrdiff_t{quad} * 3, quad == 0 ? kRound >> 16 : 0);
        sums[k] = quad == 0 ? sum : _mm512_add_epi32(sums[k], sum);
      }
    }
    for (__m512i& sum : sums) sum = _mm512_srai_epi32(sum, kPrecisionBits);
    return packed(sums);
  });
}

void vertical(const VerticalPass& pass, int i, const uint8_t* const* rows, uint8_t* dst, int n) {
  switch (pass.quads) {
    case 0:
      pass.pairs == 1 ? vertical_pair(pass, i, rows, dst, n) : kAvx2Kernels.vertical(pass, i, rows, dst, n);
      break;
    case 1: vertical_quads<true>(pass, i, rows, dst, n); break;
    default: vertical_quads<false>(pass, i, rows, dst, n); break;
  }
}

// the conversions between layouts are those of AVX2
void deinterleave(const uint8_t* src, int width, int channels, uint8_t* dst, ptrdiff_t dst_stride) {
  kAvx2Kernels.deinterleave(src, width, channels, dst, dst_stride);
}

void interleave(const uint8_t* const* lines, int width, int channels, uint8_t* dst) {
  kAvx2Kernels.interleave(lines, width, channels, dst);
}

}  // namespace

const Kernels kAvx512Kernels = {"avx512", deinterleave, interleave, prepare, prepare_vertical, horizontal, vertical};

}  // namespace lds
#endif
