// The attributes of functions for AVX-512. It is chosen with AVX2, FMA and F16C, so these functions may call those for
// AVX2.
#pragma once

#if defined(__x86_64__)

#if !defined(__clang__)
// GCC 11 and 12 warn of a register that their own intrinsics leave undefined on purpose.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#ifndef LDS_AVX512_TARGETS  // a build that emulates the intrinsics defines others
#define LDS_AVX512_TARGETS "avx512f,avx512bw,avx512dq,avx512vl"
#define LDS_AVX512_BYTES_TARGETS LDS_AVX512_TARGETS ",avx512vbmi,avx512vnni"
#endif

#define LDS_AVX512 __attribute__((target(LDS_AVX512_TARGETS)))
#define LDS_AVX512_INLINE __attribute__((target(LDS_AVX512_TARGETS), always_inline)) inline
// for functions that permute and multiply single bytes: see has_avx512_bytes()
#define LDS_AVX512_BYTES __attribute__((target(LDS_AVX512_BYTES_TARGETS)))
#define LDS_AVX512_BYTES_INLINE __attribute__((target(LDS_AVX512_BYTES_TARGETS), always_inline)) inline

#endif
