#include "resize/kernels.h"

namespace lds {
namespace {

void horizontal(const uint8_t* row, int, int channels, const FilterTable& table, uint8_t* dst) {
  horizontal_scalar(row, channels, table, 0, static_cast<int>(table.first.size()), dst);
}

void vertical(const uint8_t* const* rows, int taps, const int32_t* weights, int bytes, uint8_t* dst) {
  for (int i = 0; i < bytes; ++i) {
    uint32_t sum = kHalf;  // unsigned: intermediate sums may wrap
    for (int tap = 0; tap < taps; ++tap) sum += uint32_t{rows[tap][i]} * static_cast<uint32_t>(weights[tap]);
    dst[i] = clip_sum(static_cast<int32_t>(sum));
  }
}

void deinterleave(const uint8_t* row, int pixels, int channels, uint8_t* dst, int64_t channel_stride) {
  for (int channel = 0; channel < channels; ++channel) {
    for (int x = 0; x < pixels; ++x) dst[channel * channel_stride + x] = row[x * channels + channel];
  }
}

}  // namespace

void horizontal_scalar(const uint8_t* row, int channels, const FilterTable& table, int from, int to, uint8_t* dst) {
  for (int x = from; x < to; ++x) {
    const auto output = static_cast<size_t>(x);
    const uint8_t* source = row + static_cast<int64_t>(table.first[output]) * channels;
    const int32_t* weights = table.weights.data() + output * static_cast<size_t>(table.stride);
    for (int channel = 0; channel < channels; ++channel) {
      uint32_t sum = kHalf;
      for (int tap = 0; tap < table.taps[output]; ++tap) {
        sum += uint32_t{source[tap * channels + channel]} * static_cast<uint32_t>(weights[tap]);
      }
      dst[x * channels + channel] = clip_sum(static_cast<int32_t>(sum));
    }
  }
}

const ResizeKernels& scalar_resize_kernels() noexcept {
  static constexpr ResizeKernels kernels{"scalar", horizontal, vertical, deinterleave};
  return kernels;
}

const ResizeKernels& resize_kernels() noexcept {
#if defined(__x86_64__)
  static const bool avx2 = __builtin_cpu_supports("avx2") != 0;
  return avx2 ? avx2_resize_kernels() : scalar_resize_kernels();
#elif defined(__aarch64__)
  return neon_resize_kernels();
#else
  return scalar_resize_kernels();
#endif
}

}  // namespace lds
