// The inner loops of resizing: in plain C++, and for each instruction set.
//
// An intermediate row is planar: one line of bytes per channel, `stride` bytes apart. Each line has kPad bytes of
// padding that kernels may read and write. The caller's memory (source rows and output) has no padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "convert/pick_table.h"
#include "resize/coefficients.h"

namespace lds {

constexpr int kPad = 64;

inline int padded(int width) { return (width + 31) / 32 * 32 + kPad; }

// The table of the horizontal direction, and the data that a kernel has prepared from it.
struct HorizontalPass {
  AxisTable table;
  int channels = 0;
  enum class Layout : uint8_t { scalar, lanes, blocks } layout = Layout::scalar;
  int pairs = 0;                   // number of pairs of taps
  bool single_load = false;        // lanes: one load of 16 bytes contains the windows of 4 outputs
  std::vector<int> base;           // lanes: start of the 4 loads of each block of 16 outputs
  std::vector<uint8_t> masks;      // lanes: 2 shuffle masks of 32 bytes per block
  int stride = 0;                  // blocks: number of weights per output
  std::vector<int16_t> high, low;  // see split_weights(); the order is different for lanes
  std::vector<int32_t> whole;      // blocks on NEON: the weights, not split
  std::vector<uint8_t> scratch;    // the planar source row, or the end of an interleaved one
  PickTable pick;                  // of AxisTable::Kind::nearest: of the first channel
};

// The table of the vertical direction, and its weights for pairs of rows.
struct VerticalPass {
  AxisTable table;
  int pairs = 0;                   // number of pairs of taps
  std::vector<int16_t> high, low;  // outputs x pairs x 2; see split_weights()
};

struct Kernels {
  const char* name;

  // Convert interleaved pixels to lines, and back.
  void (*deinterleave)(const uint8_t* src, int width, int channels, uint8_t* dst, ptrdiff_t dst_stride);
  void (*interleave)(const uint8_t* src, ptrdiff_t src_stride, int width, int channels, uint8_t* dst);

  // Prepares a new table for horizontal().
  void (*prepare)(HorizontalPass& pass);

  // Resamples a row. `row` contains the interleaved pixels [table.begin, table.end), without padding.
  void (*horizontal)(HorizontalPass& pass, const uint8_t* row, uint8_t* dst, ptrdiff_t dst_stride);

  // Computes output row i from pass.table.taps padded lines. Writes exactly n bytes.
  void (*vertical)(const VerticalPass& pass, int i, const uint8_t* const* rows, uint8_t* dst, int n);
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
#endif

// Splits weights into 16-bit halves: weight = high * 2^15 + low. Output i starts at i * stride and is padded with
// zeros.
void split_weights(const AxisTable& table, int stride, std::vector<int16_t>& high, std::vector<int16_t>& low);

// The kernels that this processor supports. The first are the scalar ones.
std::vector<const Kernels*> supported_kernels();
const Kernels& chosen_kernels();  // the kernels for simd()

}  // namespace lds
