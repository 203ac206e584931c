#include "common/simd.h"

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "common/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace lds {
namespace {

#if defined(__x86_64__)
struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf) {
  Registers found;
  __get_cpuid_count(leaf, 0, &found.a, &found.b, &found.c, &found.d);
  return found;
}

// __builtin_cpu_supports does not accept "f16c" before clang 17.
bool has_f16c() { return (cpuid(1).c & bit_F16C) != 0; }

// The parts of a thread's registers that the operating system saves (XCR0); 0 if it saves none.
uint64_t saved_registers() {
  if ((cpuid(1).c & bit_OSXSAVE) == 0) return 0;
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

bool has_avx2() { return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 && has_f16c(); }

bool has_avx512() {
  constexpr uint64_t kSaved = 0xe6;  // the registers of SSE, AVX and masks, and both halves of the 512-bit ones
  constexpr unsigned kNeeded = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
  return has_avx2() && (saved_registers() & kSaved) == kSaved && (cpuid(7).b & kNeeded) == kNeeded;
}
#endif

}  // namespace

std::vector<Simd> supported_simd() {
  std::vector<Simd> sets = {Simd::scalar};
#if defined(__x86_64__)
  if (has_avx2()) sets.push_back(Simd::avx2);
  if (has_avx512()) sets.push_back(Simd::avx512);
#elif defined(__aarch64__)
  sets.push_back(Simd::neon);  // part of every aarch64
#endif
  return sets;
}

bool has_avx512_bytes() noexcept {
#if defined(__x86_64__)
  // asked once: in a virtual machine the host answers each cpuid, which takes longer than the line of an image
  static const bool found = [] {
    constexpr unsigned kNeeded = bit_AVX512VBMI | bit_AVX512VNNI;
    return has_avx512() && (cpuid(7).c & kNeeded) == kNeeded;
  }();
  return found;
#else
  return false;
#endif
}

const char* simd_name(Simd simd) noexcept {
  switch (simd) {
    case Simd::avx2: return "avx2";
    case Simd::avx512: return "avx512";
    case Simd::neon: return "neon";
    default: return "scalar";
  }
}

Simd simd_named(const std::string& name) {
  const std::vector<Simd> sets = supported_simd();
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
