// Converts uint8 pixels of 1 to 4 channels to the type and layout of a batch or of a stored row, and mirrors them.
#pragma once

#include <cstdint>

#include "common/simd.h"
#include "convert/pixel_type.h"

namespace lds {

// Float output is value * multiply[c] + add[c] as one fused multiply-add, then rounded to nearest even for 16-bit
// floats. uint8 output is the value itself.
struct Scale {  // finite, so that no value is NaN
  float multiply[4];
  float add[4];
};

struct ConvertKernels {
  const char* name;

  // Converts n pixels of 1 to 4 interleaved channels, or a plane with channels = 1. `stream` uses streaming stores, for
  // output that is not read soon; call finish_stream() at the end. `type` is uint8 or a float.
  void (*pixels)(const uint8_t* source, int64_t n, int channels, const Scale& scale, PixelType type, void* out,
                 bool stream);

  // Reverses the order of n bytes. `out` must not overlap `bytes`.
  void (*mirror)(const uint8_t* bytes, int64_t n, uint8_t* out);
};

const ConvertKernels& scalar_convert_kernels() noexcept;
// The kernels for a set that this processor supports, and for simd(). Their results equal those of the scalar kernels,
// bit for bit.
const ConvertKernels& convert_kernels(Simd set) noexcept;
const ConvertKernels& convert_kernels() noexcept;

// Orders this thread's streaming stores before its later stores, so that other threads see the data.
void finish_stream() noexcept;

// Makes n interleaved pixels of planes of n bytes.
void interleave(const uint8_t* const* planes, int64_t n, int channels, uint8_t* out) noexcept;
// Reverses the order of n pixels.
void mirror(const uint8_t* pixels, int64_t n, int channels, uint8_t* out) noexcept;

#if defined(__x86_64__)
const ConvertKernels& avx2_convert_kernels() noexcept;
const ConvertKernels& avx512_convert_kernels() noexcept;
#elif defined(__aarch64__)
const ConvertKernels& neon_convert_kernels() noexcept;
#endif

}  // namespace lds
