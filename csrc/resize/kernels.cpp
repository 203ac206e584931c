#include "resize/kernels.h"

#include "common/simd.h"

namespace lds {

void split_weights(const AxisTable& table, int stride, std::vector<int16_t>& high, std::vector<int16_t>& low) {
  high.assign(static_cast<size_t>(table.outputs) * stride, 0);
  low.assign(high.size(), 0);
  for (int i = 0; i < table.outputs; ++i) {
    for (int j = 0; j < table.taps; ++j) {
      const int32_t weight = table.weights[static_cast<size_t>(i) * table.taps + j];
      high[static_cast<size_t>(i) * stride + j] = static_cast<int16_t>(weight >> 15);
      low[static_cast<size_t>(i) * stride + j] = static_cast<int16_t>(weight & 0x7fff);
    }
  }
}

std::vector<const Kernels*> supported_kernels() {
  std::vector<const Kernels*> kernels = {&kScalarKernels};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) kernels.push_back(&kAvx2Kernels);
#elif defined(__aarch64__)
  kernels.push_back(&kNeonKernels);  // part of every aarch64
#endif
  return kernels;
}

const Kernels& chosen_kernels() {
#if defined(__x86_64__)
  if (simd() == Simd::avx2) return kAvx2Kernels;
#elif defined(__aarch64__)
  if (simd() == Simd::neon) return kNeonKernels;
#endif
  return kScalarKernels;
}

}  // namespace lds
