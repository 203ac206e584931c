// Tests that the conversion kernels equal the scalar ones, bit for bit, for all alignments and tails.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "convert/convert.h"

using namespace lds;

TEST_CASE("the conversion kernels equal the scalar ones") {
  const Scale scale{{0.017F, 0.0175F, 0.0174F, 1e-6F}, {-2.1F, -2.03F, -1.8F, 0}};
  std::vector<uint8_t> source(300);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint8_t>(i * 7);
  for (const PixelType type : {PixelType::uint8, PixelType::float32, PixelType::float16, PixelType::bfloat16}) {
    const auto bytes = static_cast<size_t>(pixel_bytes(type));
    for (int channels = 1; channels <= 4; ++channels) {
      for (int64_t n = 1; n * channels <= 300; ++n) {
        const auto total = static_cast<size_t>(n * channels) * bytes;
        std::vector<uint8_t> expected(total);
        scalar_convert_kernels().pixels(source.data(), n, channels, scale, type, expected.data(), false);
        for (const bool stream : {false, true}) {
          std::vector<uint8_t> found(total + 64);
          uint8_t* out = found.data() + (static_cast<size_t>(n) * bytes) % 64;
          convert_kernels().pixels(source.data(), n, channels, scale, type, out, stream);
          finish_stream();
          CHECK(std::memcmp(out, expected.data(), total) == 0);
        }
      }
    }
  }
}

TEST_CASE("mirrored bytes equal the scalar ones, for all lengths") {
  std::vector<uint8_t> bytes(150);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7);
  for (int64_t n = 0; n <= 150; ++n) {
    std::vector<uint8_t> expected(150, 1), found(150, 1);
    scalar_convert_kernels().mirror(bytes.data(), n, expected.data());
    convert_kernels().mirror(bytes.data(), n, found.data());
    CHECK(found == expected);
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
