// Conversion kernels for NEON, which every aarch64 has: sixteen values at a time. Streaming stores would not help here.
#include "convert/convert.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstring>

#include "convert/scalar.h"

namespace lds {
namespace {

constexpr int64_t kStep = 16;

uint16x4_t nearest_even_bfloat16(float32x4_t values) {
  const uint32x4_t bits = vreinterpretq_u32_f32(values);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  return vshrn_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
}

template <PixelType kType>
void store(float32x4_t values, void* out, int64_t at) {
  if constexpr (kType == PixelType::float32) {
    vst1q_f32(static_cast<float*>(out) + at, values);
  } else if constexpr (kType == PixelType::float16) {
    vst1_u16(static_cast<uint16_t*>(out) + at, vreinterpret_u16_f16(vcvt_f16_f32(values)));
  } else {
    vst1_u16(static_cast<uint16_t*>(out) + at, nearest_even_bfloat16(values));
  }
}

// Converts sixteen values as four vectors. Vector `first + v` uses factors (first + v) % kPeriod.
template <PixelType kType, int kPeriod>
void store_sixteen(const uint8_t* source, const float32x4_t* multiply, const float32x4_t* add, int first, void* out,
                   int64_t at) {
  const uint8x16_t bytes = vld1q_u8(source + at);
  const uint16x8_t words[2] = {vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes)};
  for (int v = 0; v < 4; ++v) {
    const uint16x8_t half = words[v / 2];
    const uint32x4_t four = v % 2 == 0 ? vmovl_u16(vget_low_u16(half)) : vmovl_high_u16(half);
    const int factor = (first + v) % kPeriod;
    store<kType>(vfmaq_f32(add[factor], vcvtq_f32_u32(four), multiply[factor]), out, at + int64_t{4} * v);
  }
}

// Converts n values of repeating channels. kPeriod vectors of four values contain a whole number of pixels.
template <PixelType kType, int kPeriod>
void convert(const uint8_t* source, int64_t n, int channels, const Scale& scale, void* out) {
  float32x4_t multiply[kPeriod];
  float32x4_t add[kPeriod];
  for (int vector = 0; vector < kPeriod; ++vector) {
    float m[4];
    float a[4];
    for (int lane = 0; lane < 4; ++lane) {
      m[lane] = scale.multiply[(vector * 4 + lane) % channels];
      a[lane] = scale.add[(vector * 4 + lane) % channels];
    }
    multiply[vector] = vld1q_f32(m);
    add[vector] = vld1q_f32(a);
  }
  int64_t i = 0;
  for (; i + kStep * kPeriod <= n; i += kStep * kPeriod) {
    for (int part = 0; part < kPeriod; ++part) {
      store_sixteen<kType, kPeriod>(source, multiply, add, part * 4, out, i + part * kStep);
    }
  }
  for (; i < n; ++i) {
    convert_one(source[i], scale.multiply[i % channels], scale.add[i % channels], kType, out, i);
  }
}

template <PixelType kType>
void convert_as(const uint8_t* source, int64_t n, int channels, const Scale& scale, void* out) {
  if (channels == 3) {
    convert<kType, 3>(source, n, 3, scale, out);
  } else {  // 1, 2 and 4 channels divide four
    convert<kType, 1>(source, n, channels, scale, out);
  }
}

void pixels(const uint8_t* source, int64_t n, int channels, const Scale& scale, PixelType type, void* out, bool) {
  const int64_t values = n * channels;
  if (values == 0) return;  // source and out may be null
  switch (type) {
    case PixelType::uint8: std::memcpy(out, source, static_cast<size_t>(values)); break;
    case PixelType::float32: convert_as<PixelType::float32>(source, values, channels, scale, out); break;
    case PixelType::float16: convert_as<PixelType::float16>(source, values, channels, scale, out); break;
    case PixelType::bfloat16: convert_as<PixelType::bfloat16>(source, values, channels, scale, out); break;
    default: break;  // only the types of ConvertKernels
  }
}

void mirror(const uint8_t* bytes, int64_t n, uint8_t* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const uint8x16_t halves = vrev64q_u8(vld1q_u8(bytes + n - 16 - i));
    vst1q_u8(out + i, vextq_u8(halves, halves, 8));
  }
  for (; i < n; ++i) out[i] = bytes[n - 1 - i];
}

}  // namespace

const ConvertKernels& neon_convert_kernels() noexcept {
  static constexpr ConvertKernels kernels{"neon", pixels, mirror};
  return kernels;
}

}  // namespace lds

#endif
