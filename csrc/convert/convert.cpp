#include "convert/convert.h"

#include <cstring>

#include "convert/scalar.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lds {
namespace {

void pixels(const uint8_t* source, int64_t n, int channels, const Scale& scale, PixelType type, void* out, bool) {
  for (int64_t i = 0; i < n; ++i) {
    for (int c = 0; c < channels; ++c) {
      const int64_t at = i * channels + c;
      convert_one(source[at], scale.multiply[c], scale.add[c], type, out, at);
    }
  }
}

// Copies each pixel as one word. A word for 3 channels has a byte too many, which the next pixel overwrites.
template <int kChannels>
void mirror_pixels(const uint8_t* pixels, int64_t n, uint8_t* out) noexcept {
  const auto byte_by_byte = [&](int64_t i) {
    for (int c = 0; c < kChannels; ++c) out[i * kChannels + c] = pixels[(n - 1 - i) * kChannels + c];
  };
  constexpr int kWord = kChannels == 3 ? 4 : kChannels;
  if (n > 0) byte_by_byte(0);  // a word would read past the end of the source
  for (int64_t i = 1; i < n - 1; ++i) std::memcpy(out + i * kChannels, pixels + (n - 1 - i) * kChannels, kWord);
  if (n > 1) byte_by_byte(n - 1);  // or write past the end of the output
}

void mirror_bytes(const uint8_t* bytes, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = bytes[n - 1 - i];
}

}  // namespace

const ConvertKernels& scalar_convert_kernels() noexcept {
  static constexpr ConvertKernels kernels{"scalar", pixels, mirror_bytes};
  return kernels;
}

const ConvertKernels& convert_kernels(Simd set) noexcept {
  switch (set) {
#if defined(__x86_64__)
    case Simd::avx2: return avx2_convert_kernels();
    case Simd::avx512: return avx512_convert_kernels();
#elif defined(__aarch64__)
    case Simd::neon: return neon_convert_kernels();
#endif
    default: return scalar_convert_kernels();
  }
}

const ConvertKernels& convert_kernels() noexcept {
  static const ConvertKernels& chosen = convert_kernels(simd());
  return chosen;
}

void finish_stream() noexcept {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

void interleave(const uint8_t* const* planes, int64_t n, int channels, uint8_t* out) noexcept {
  for (int c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < n; ++i) out[i * channels + c] = planes[c][i];
  }
}

void mirror(const uint8_t* pixels, int64_t n, int channels, uint8_t* out) noexcept {
  switch (channels) {
    case 1: convert_kernels().mirror(pixels, n, out); break;
    case 2: mirror_pixels<2>(pixels, n, out); break;
    case 3: mirror_pixels<3>(pixels, n, out); break;
    default: mirror_pixels<4>(pixels, n, out); break;
  }
}

}  // namespace lds
