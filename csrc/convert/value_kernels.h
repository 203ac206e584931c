// Converts lines of values of any PixelType by way of float32, sums weighted lines, and moves values. Mostly plain
// loops, which the compiler vectorises: once for the processor that is the least, and once for AVX2 with FMA and F16C.
#pragma once

#include <cstdint>

#include "common/simd.h"
#include "convert/pick_table.h"
#include "convert/pixel_type.h"

namespace lds {

// Not for int32 and int64, which float32 does not represent. The pointers to stored values need no alignment.
struct ValueKernels {
  const char* name;

  // Each value as a float, exactly.
  void (*widen)(const uint8_t* values, PixelType type, int64_t n, float* out);

  // values[i] * multiply[i] + add[i] as one fused multiply-add.
  void (*scale)(float* values, int64_t n, const float* multiply, const float* add);

  // Rounds to nearest even. Integers are clamped to the range of their type; they are not made from NaN.
  void (*narrow)(const float* values, PixelType type, int64_t n, uint8_t* out);

  // out[i] += value[i] * weight, rounded after the product and after the sum.
  void (*add_weighted)(const uint8_t* values, PixelType type, int64_t n, float weight, float* out);

  // Copies n values in reverse order. `bytes`, of a value, is 1, 2, 4 or 8.
  void (*reverse)(const uint8_t* values, int64_t n, int64_t bytes, uint8_t* out);

  // Writes the values that a prepared table picks of a row, and up to PickTable::kPad bytes more.
  void (*pick)(const PickTable& table, const uint8_t* row, uint8_t* out);
};

const ValueKernels& scalar_value_kernels() noexcept;
// The kernels for a set that this processor supports, and for simd(). Their results equal those of the scalar kernels,
// bit for bit.
const ValueKernels& value_kernels(Simd set) noexcept;
const ValueKernels& value_kernels() noexcept;

#if defined(__x86_64__)
const ValueKernels& avx2_value_kernels() noexcept;
#endif

}  // namespace lds
