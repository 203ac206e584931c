#include "convert/value_kernels.h"

#include "common/simd.h"

#define LDS_LOOPS inline
#include "convert/value_loops.h"

namespace lds {

const ValueKernels& scalar_value_kernels() noexcept {
  static constexpr ValueKernels kernels{"scalar", widen, scale, narrow, add_weighted, reverse, pick};
  return kernels;
}

const ValueKernels& value_kernels() noexcept {
#if defined(__x86_64__)
  if (simd() == Simd::avx2) return avx2_value_kernels();
#endif
  return scalar_value_kernels();
}

}  // namespace lds
