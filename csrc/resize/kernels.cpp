#include "resize/kernels.h"

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

void split_pairs(VerticalPass& pass) {
  pass.pairs = (pass.table.taps + 1) / 2;
  split_weights(pass.table, pass.pairs * 2, pass.high, pass.low);
}

const Kernels& resize_kernels(Simd set) {
  switch (set) {
#if defined(__x86_64__)
    case Simd::avx2: return kAvx2Kernels;
    case Simd::avx512: return has_avx512_bytes() ? kAvx512Kernels : kAvx2Kernels;
#elif defined(__aarch64__)
    case Simd::neon: return kNeonKernels;
#endif
    default: return kScalarKernels;
  }
}

const Kernels& resize_kernels() { return resize_kernels(simd()); }

}  // namespace lds
