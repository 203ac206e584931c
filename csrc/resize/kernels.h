// The inner loops of resizing, once in plain C++ and once for each instruction set.
//
// Inside, a row is planar: `channels` lines of bytes, a stride apart, with kPad bytes behind each line
// that kernels may read and write. Only the caller's memory (source rows, output) has no padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "resize/coefficients.h"

namespace lds {

constexpr int kPad = 64;

inline int padded(int width) { return (width + 31) / 32 * 32 + kPad; }

// The horizontal direction's table with what a kernel prepared from it.
struct HorizontalPass {
  AxisTable table;
  int channels = 0;
  enum class Layout : uint8_t { scalar, lanes, blocks } layout = Layout::scalar;
  int pairs = 0;                   // pairs of taps
  bool single_load = false;        // lanes: the whole window of 4 outputs lies in 16 bytes
  std::vector<int> base;           // lanes: where the 4 loads of each block of 16 outputs start
  std::vector<uint8_t> masks;      // lanes: 2 shuffles of 32 bytes for a block
  int stride = 0;                  // blocks: weights in an output's window
  std::vector<int16_t> high, low;  // see split_weights; lanes has an order of its own
  std::vector<int32_t> whole;      // blocks of NEON: weights that are not split
  std::vector<uint8_t> scratch;    // planar source row, or the tail of an interleaved one
};

// The vertical direction's table, and its weights in pairs of rows.
struct VerticalPass {
  AxisTable table;
  int pairs = 0;                   // pairs of taps
  std::vector<int16_t> high, low;  // outputs x pairs x 2
};

struct Kernels {
  const char* name;

  // Interleaved pixels to lines, and back.
  void (*deinterleave)(const uint8_t* src, int width, int channels, uint8_t* dst, ptrdiff_t dst_stride);
  void (*interleave)(const uint8_t* src, ptrdiff_t src_stride, int width, int channels, uint8_t* dst);

  // Called once for a new table.
  void (*prepare)(HorizontalPass& pass);

  // `row`: interleaved pixels from table.begin on, (end - begin) of them, without padding.
  void (*horizontal)(HorizontalPass& pass, const uint8_t* row, uint8_t* dst, ptrdiff_t dst_stride);

  // Output row i from pass.table.taps lines (padded); writes exactly n bytes.
  void (*vertical)(const VerticalPass& pass, int i, const uint8_t* const* rows, uint8_t* dst, int n);
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
#endif

// weight = high * 2^15 + low, both 16 bits; output i starts at i * stride, zeros behind its taps.
void split_weights(const AxisTable& table, int stride, std::vector<int16_t>& high, std::vector<int16_t>& low);

// All that this processor can run, the slowest (scalar) first.
std::vector<const Kernels*> supported_kernels();
const Kernels& chosen_kernels();  // those of simd()

}  // namespace lds
