// The inner loops of resizing: in plain C++, and for each instruction set.
//
// An intermediate row is planar: one line of bytes per channel, `stride` bytes apart. Each line has kPad bytes of
// padding that kernels may read and write. The caller's memory (source rows and output) has no padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/simd.h"
#include "convert/pick_table.h"
#include "resize/coefficients.h"

namespace lds {

constexpr int kPad = 64;

inline int padded(int width) { return (width + 31) / 32 * 32 + kPad; }

struct alignas(64) CacheLine {
  uint8_t bytes[64];
};

// The table of the horizontal direction, and the data that a kernel has prepared from it.
struct HorizontalPass {
  AxisTable table;
  int channels = 0;
  enum class Layout : uint8_t { scalar, lanes, blocks, windows } layout = Layout::scalar;
  int pairs = 0;                   // number of pairs of taps
  bool single_load = false;        // lanes: one load of 16 bytes contains the windows of 4 outputs
  std::vector<int> base;           // lanes: start of the 4 loads of each block of 16 outputs
                                   // windows: start of the load of each block of 16 outputs
  std::vector<uint8_t> masks;      // lanes: 2 shuffle masks of 32 bytes per block
  int stride = 0;                  // blocks: number of weights per output
  std::vector<int16_t> high, low;  // see split_weights(); the order is different for lanes
  std::vector<int32_t> whole;      // blocks on NEON: the weights, not split
  int quads = 0;                   // windows: number of groups of 4 taps
  std::vector<CacheLine> windows;  // windows: of each block, the indices and 3 x quads lines of weights
  std::vector<uint8_t> scratch;    // the planar source row, or the end of an interleaved one
  PickTable pick;                  // of AxisTable::Kind::nearest: of the first channel
};

// The table of the vertical direction, and its weights as a kernel has prepared them.
struct VerticalPass {
  AxisTable table;
  int pairs = 0;                   // number of pairs of taps
  std::vector<int16_t> high, low;  // outputs x pairs x 2; see split_weights()
  int quads = 0;                   // AVX-512: number of groups of 4 taps; 0: pairs are used
  std::vector<int32_t> bytes;      // AVX-512: outputs x quads x 3, each of 4 bytes
};

struct Kernels {
  const char* name;

  // Convert interleaved pixels to lines, and back.
  void (*deinterleave)(const uint8_t* src, int width, int channels, uint8_t* dst, ptrdiff_t dst_stride);
  void (*interleave)(const uint8_t* src, ptrdiff_t src_stride, int width, int channels, uint8_t* dst);

  // Prepare a new table for horizontal() and for vertical().
  void (*prepare)(HorizontalPass& pass);
  void (*prepare_vertical)(VerticalPass& pass);

  // Resamples a row. `row` contains the interleaved pixels [table.begin, table.end), without padding.
  void (*horizontal)(HorizontalPass& pass, const uint8_t* row, uint8_t* dst, ptrdiff_t dst_stride);

  // Computes output row i from pass.table.taps padded lines. Writes exactly n bytes.
  void (*vertical)(const VerticalPass& pass, int i, const uint8_t* const* rows, uint8_t* dst, int n);
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;  // for processors that has_avx512_bytes()
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
#endif

// Splits weights into 16-bit halves: weight = high * 2^15 + low. Output i starts at i * stride and is padded with
// zeros.
void split_weights(const AxisTable& table, int stride, std::vector<int16_t>& high, std::vector<int16_t>& low);

// The same for pairs of rows.
void split_pairs(VerticalPass& pass);

// The kernels for a set that this processor supports, and for simd().
const Kernels& resize_kernels(Simd set);
const Kernels& resize_kernels();

}  // namespace lds
