// The loops of a resize. Each has a scalar version that says what is meant, and SIMD versions that must equal it.
#pragma once

#include <cstdint>

#include "resize/filter_table.h"

namespace lds {

// Bytes that may be written beyond the end of a row by a kernel: buffers have this room.
constexpr int kRowSlack = 64;

struct ResizeKernels {
  const char* name;

  // dst[x] = sum of the taps of output x, for x in [0, outputs). `row_pixels` source pixels may be read.
  void (*horizontal)(const uint8_t* row, int row_pixels, int channels, const FilterTable& table, uint8_t* dst);

  // dst[i] = sum over taps of rows[tap][i] * weight, i in [0, bytes). Rows and dst have kRowSlack bytes of room.
  void (*vertical)(const uint8_t* const* rows, int taps, const int32_t* weights, int bytes, uint8_t* dst);

  // Interleaved pixels -> one row of each plane.
  void (*deinterleave)(const uint8_t* row, int pixels, int channels, uint8_t* dst, int64_t channel_stride);
};

const ResizeKernels& scalar_resize_kernels() noexcept;
// The fastest that this processor runs.
const ResizeKernels& resize_kernels() noexcept;

// The rounding and clipping of both passes.
inline uint8_t clip_sum(int32_t sum) noexcept {
  const int32_t value = sum >> kPrecisionBits;
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}
constexpr int32_t kHalf = 1 << (kPrecisionBits - 1);

// Outputs [from, to) of a horizontal pass, the obvious way; SIMD kernels finish with it.
void horizontal_scalar(const uint8_t* row, int channels, const FilterTable& table, int from, int to, uint8_t* dst);

#if defined(__x86_64__)
const ResizeKernels& avx2_resize_kernels() noexcept;
#elif defined(__aarch64__)
const ResizeKernels& neon_resize_kernels() noexcept;
#endif

}  // namespace lds
