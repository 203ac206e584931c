// The scalar kernels: the reference for all others, and the fallback for processors without them.
#include <algorithm>
#include <cstring>

#include "resize/kernels.h"

namespace lds {
namespace {

uint8_t clip8(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255)); }

void deinterleave(const uint8_t* src, int width, int channels, uint8_t* dst, ptrdiff_t dst_stride) {
  if (channels == 1) {
    std::memcpy(dst, src, width);
    return;
  }
  for (int c = 0; c < channels; ++c) {
    uint8_t* line = dst + c * dst_stride;
    for (int x = 0; x < width; ++x) line[x] = src[x * channels + c];
  }
}

void interleave(const uint8_t* src, ptrdiff_t src_stride, int width, int channels, uint8_t* dst) {
  for (int c = 0; c < channels; ++c) {
    const uint8_t* line = src + c * src_stride;
    for (int x = 0; x < width; ++x) dst[x * channels + c] = line[x];
  }
}

void prepare(HorizontalPass& pass) { pass.layout = HorizontalPass::Layout::scalar; }
void prepare_vertical(VerticalPass&) {}

void horizontal(HorizontalPass& pass, const uint8_t* row, uint8_t* dst, ptrdiff_t dst_stride) {
  const AxisTable& table = pass.table;
  for (int i = 0; i < table.outputs; ++i) {
    const int32_t* weights = &table.weights[static_cast<size_t>(i) * table.taps];
    const int count = table.end_of[i] - table.first[i];
    for (int c = 0; c < pass.channels; ++c) {
      const uint8_t* source = row + static_cast<ptrdiff_t>(table.first[i] - table.begin) * pass.channels + c;
      int32_t sum = 1 << (kPrecisionBits - 1);
      for (ptrdiff_t j = 0; j < count; ++j) sum += source[j * pass.channels] * weights[j];
      dst[c * dst_stride + i] = clip8(sum);
    }
  }
}

void vertical(const VerticalPass& pass, int i, const uint8_t* const* rows, uint8_t* dst, int n) {
  const AxisTable& table = pass.table;
  const int32_t* weights = &table.weights[static_cast<size_t>(i) * table.taps];
  const int count = table.end_of[i] - table.first[i];
  for (int x = 0; x < n; ++x) {
    int32_t sum = 1 << (kPrecisionBits - 1);
    for (int j = 0; j < count; ++j) sum += rows[j][x] * weights[j];
    dst[x] = clip8(sum);
  }
}

}  // namespace

const Kernels kScalarKernels = {"scalar", deinterleave, interleave, prepare, prepare_vertical, horizontal, vertical};

}  // namespace lds
