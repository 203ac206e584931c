#include "convert/value_kernels.h"

#define LDS_LOOPS inline
#include "convert/value_loops.h"

namespace lds {

const ValueKernels& scalar_value_kernels() noexcept {
  static constexpr ValueKernels kernels{"scalar", widen, scale, narrow, add_weighted, reverse, pick};
  return kernels;
}

const ValueKernels& value_kernels([[maybe_unused]] Simd set) noexcept {
#if defined(__x86_64__)
  if (includes_avx2(set)) return avx2_value_kernels();
#endif
  return scalar_value_kernels();
}

const ValueKernels& value_kernels() noexcept { return value_kernels(simd()); }

}  // namespace lds
