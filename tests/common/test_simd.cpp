// Tests the choice of the instruction set, and the error for one that the processor does not support.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

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
  for (const Simd set : supported_simd()) CHECK(simd_named(simd_name(set)) == set);
  CHECK(simd_named("") == supported_simd().back());
#endif
  CHECK_THROWS_WITH_AS(simd_named("sse9"), doctest::Contains("found 'sse9'"), Error);
}

#if defined(__x86_64__)
TEST_CASE("AVX-512 is used where the processor has it and the operating system saves its registers") {
  // the kernel lists it only then
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line;
  while (std::getline(cpuinfo, line) && line.rfind("flags", 0) != 0) {
  }
  const auto listed = [&](const char* flag) {
    return (line + " ").find(" " + std::string(flag) + " ") != std::string::npos;
  };
  const bool listed_all = listed("avx512f") && listed("avx512bw") && listed("avx512dq") && listed("avx512vl");
  const std::vector<Simd> sets = supported_simd();
  CHECK((std::find(sets.begin(), sets.end(), Simd::avx512) != sets.end()) == listed_all);
  CHECK(has_avx512_bytes() == (listed_all && listed("avx512vbmi") && listed("avx512_vnni")));
}
#endif
