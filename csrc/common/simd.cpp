#include "common/simd.h"

#include <cstdlib>
#include <vector>

#include "common/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace lds {
namespace {

#if defined(__x86_64__)
// __builtin_cpu_supports does not accept "f16c" before clang 17.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

// The fastest last.
std::vector<Simd> supported() {
  std::vector<Simd> sets = {Simd::scalar};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) sets.push_back(Simd::avx2);
#elif defined(__aarch64__)
  sets.push_back(Simd::neon);  // part of every aarch64
#endif
  return sets;
}

}  // namespace

const char* simd_name(Simd simd) noexcept {
  switch (simd) {
    case Simd::avx2: return "avx2";
    case Simd::neon: return "neon";
    default: return "scalar";
  }
}

Simd simd_named(const std::string& name) {
  const std::vector<Simd> sets = supported();
  if (name.empty()) return sets.back();
  std::string names;
  for (const Simd set : sets) {
    if (name == simd_name(set)) return set;
    names += (names.empty() ? "" : " or ") + std::string(simd_name(set));
  }
  throw Error(Reason::value, "LARGEDS_SIMD: expected " + names + " on this processor, found '" + name +
                                 "'. Unset it to use the fastest.");
}

Simd simd() {
  static const Simd chosen = [] {
    const char* const name = std::getenv("LARGEDS_SIMD");  // NOLINT(concurrency-mt-unsafe): called once, at import
    return simd_named(name == nullptr ? "" : name);
  }();
  return chosen;
}

}  // namespace lds
