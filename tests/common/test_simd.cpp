// Which instruction set the kernels use, and what a person reads whose choice this processor doesn't have.
#include <doctest/doctest.h>

#include "common/error.h"
#include "common/simd.h"

using namespace lds;

TEST_CASE("the fastest, unless another is named") {
  CHECK(simd_called("scalar") == Simd::scalar);
#if defined(__aarch64__)
  CHECK(simd_called("") == Simd::neon);
  CHECK_THROWS_WITH_AS(simd_called("avx2"), doctest::Contains("expected scalar or neon"), Error);
#else
  CHECK(simd_called(simd_name(simd_called(""))) == simd_called(""));
  CHECK_THROWS_WITH_AS(simd_called("neon"), doctest::Contains("expected scalar"), Error);
#endif
  CHECK_THROWS_WITH_AS(simd_called("sse9"), doctest::Contains("found 'sse9'"), Error);
}
