// Tests that the conversion kernels equal the scalar ones, bit for bit, for all alignments and tails.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "convert/convert.h"

using namespace lds;

namespace {

// Of all sets that this processor supports.
std::vector<const ConvertKernels*> supported_kernels() {
  std::vector<const ConvertKernels*> kernels;
  for (const Simd set : supported_simd()) kernels.push_back(&convert_kernels(set));
  return kernels;
}

// The output begins anywhere in a cache line, and the bytes around it must stay as they are.
void check_pixels(const ConvertKernels& kernels, const uint8_t* source, int64_t n, int channels, const Scale& scale,
                  PixelType type) {
  const auto bytes = static_cast<size_t>(pixel_bytes(type));
  const auto total = static_cast<size_t>(n * channels) * bytes;
  std::vector<uint8_t> expected(total);
  scalar_convert_kernels().pixels(source, n, channels, scale, type, expected.data(), false);
  for (const bool stream : {false, true}) {
    std::vector<uint8_t> found(total + 128, 0xee);
    const size_t at = static_cast<size_t>(n) * bytes % 64;
    kernels.pixels(source, n, channels, scale, type, found.data() + at, stream);
    finish_stream();
    CAPTURE(kernels.name);
    CAPTURE(pixel_type_name(type));
    CAPTURE(channels);
    CAPTURE(n);
    CAPTURE(stream);
    REQUIRE(std::memcmp(found.data() + at, expected.data(), total) == 0);
    for (size_t i = 0; i < found.size(); ++i) REQUIRE((found[i] == 0xee || (i >= at && i < at + total)));
  }
}

}  // namespace

TEST_CASE("the conversion kernels equal the scalar ones") {
  // the values of the fourth channel are ordinary, subnormal, and infinite
  const Scale scales[] = {{{0.017F, 0.0175F, 0.0174F, 1e-6F}, {-2.1F, -2.03F, -1.8F, 0}},
                          {{0.004F, -0.0175F, 1.0F, 1e-41F}, {0, 2.03F, 0, -3e-40F}},
                          {{257.0F, 4e-8F, 1e-7F, 3e38F}, {1e-8F, -3e-6F, 1e-5F, -3e38F}}};
  std::vector<uint8_t> source(301);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint8_t>(i * 7);
  for (const ConvertKernels* const kernels : supported_kernels()) {
    for (const PixelType type : {PixelType::uint8, PixelType::float32, PixelType::float16, PixelType::bfloat16}) {
      for (int channels = 1; channels <= 4; ++channels) {
        for (int64_t n = 1; n * channels <= 300; ++n) {
          check_pixels(*kernels, source.data() + n % 2, n, channels, scales[n % 3], type);
        }
      }
    }
  }
}

TEST_CASE("every value of a plane is converted as by the scalar kernels") {
  std::vector<uint8_t> source(256);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint8_t>(i);
  for (const ConvertKernels* const kernels : supported_kernels()) {
    for (const PixelType type : {PixelType::float32, PixelType::float16, PixelType::bfloat16}) {
      for (const float multiply : {1e-41F, -3e-40F, 1e-8F, 4e-7F, 0.0039F, -0.0171F, 255.0F, 300.0F, 1.3e36F, 3e38F}) {
        for (const float add : {0.0F, -0.0F, 1e-39F, -2.1F, 1e-5F, -3e38F}) {
          check_pixels(*kernels, source.data(), 256, 1, {{multiply}, {add}}, type);
        }
      }
    }
  }
}

TEST_CASE("mirrored bytes equal the scalar ones, for all lengths") {
  std::vector<uint8_t> bytes(150);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7);
  for (const ConvertKernels* const kernels : supported_kernels()) {
    for (int64_t n = 0; n <= 150; ++n) {
      std::vector<uint8_t> expected(150, 1), found(150, 1);
      scalar_convert_kernels().mirror(bytes.data(), n, expected.data());
      kernels->mirror(bytes.data(), n, found.data());
      CHECK(found == expected);
    }
  }
}

TEST_CASE("planes are interleaved, and mirroring twice reverts itself") {
  std::vector<uint8_t> bytes(4 * 37);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  const uint8_t* planes[4] = {bytes.data(), bytes.data() + 37, bytes.data() + 74, bytes.data() + 111};
  for (int channels = 1; channels <= 4; ++channels) {
    const int64_t n = 37;
    std::vector<uint8_t> pixels(static_cast<size_t>(n * channels)), mirrored(pixels.size()), back(pixels.size());
    interleave(planes, n, channels, pixels.data());
    for (int64_t i = 0; i < n; ++i) {
      for (int c = 0; c < channels; ++c) CHECK(pixels[static_cast<size_t>(i * channels + c)] == planes[c][i]);
    }
    mirror(pixels.data(), n, channels, mirrored.data());
    CHECK(mirrored[0] == pixels[static_cast<size_t>(36 * channels)]);
    mirror(mirrored.data(), n, channels, back.data());
    CHECK(back == pixels);
  }
}
