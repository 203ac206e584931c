// uint8 pixels -> what a batch or a baked row holds: other types, the other layout, mirrored.
#pragma once

#include <cstdint>

namespace lds {

enum class PixelType : uint8_t { uint8, float32, float16, bfloat16 };
int64_t pixel_bytes(PixelType type) noexcept;

// value * multiply[c] + add[c], as one fused operation and rounded once more for 16-bit floats (to nearest even).
// uint8 output is the value itself.
struct Scale {
  float multiply[4];
  float add[4];
};

struct ConvertKernels {
  const char* name;

  // n pixels of 1 to 4 interleaved channels; a plane is n pixels of one.
  // `stream`: write past the caches, for output that nobody reads soon; end with finish_stream().
  void (*pixels)(const uint8_t* source, int64_t n, int channels, const Scale& scale, PixelType type, void* out,
                 bool stream);
};

const ConvertKernels& scalar_convert_kernels() noexcept;
// Those of simd(). Equal to the scalar ones, bit for bit.
const ConvertKernels& convert_kernels() noexcept;

// Makes this thread's streamed bytes visible to others before what it writes next.
void finish_stream() noexcept;

// Layouts, in bytes: planes of n pixels <-> interleaved pixels; pixels from right to left.
void interleave(const uint8_t* const* planes, int64_t n, int channels, uint8_t* out) noexcept;
void deinterleave(const uint8_t* pixels, int64_t n, int channels, uint8_t* const* planes) noexcept;
void mirror(const uint8_t* pixels, int64_t n, int channels, uint8_t* out) noexcept;

#if defined(__x86_64__)
const ConvertKernels& avx2_convert_kernels() noexcept;
#elif defined(__aarch64__)
const ConvertKernels& neon_convert_kernels() noexcept;
#endif

}  // namespace lds
