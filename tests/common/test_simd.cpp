// Tests the choice of the instruction set, and the error for one that the processor does not support.
#include <doctest/doctest.h>

#include "common/error.h"
#include "common/simd.h"

using namespace lds;

TEST_CASE("the fastest instruction set is used unless another is named") {
  CHECK(simd_named("scalar") == Simd::scalar);
#if defined(__aarch64__)
  CHECK(simd_named("") == Simd::neon);
  CHECK_THROWS_WITH_AS(simd_named("avx2"), doctest::Contains("expected scalar or neon"), Error);
#else
  CHECK(simd_named(simd_name(simd_named(""))) == simd_named(""));
  CHECK_THROWS_WITH_AS(simd_named("neon"), doctest::Contains("expected scalar"), Error);
#endif
  CHECK_THROWS_WITH_AS(simd_named("sse9"), doctest::Contains("found 'sse9'"), Error);
}
