// Small pictures in each format, and their pixels again.
#pragma once

#include <png.h>
#include <webp/encode.h>

#include <vector>

#include "codec/decode.h"
#include "jpeg_of.h"

inline Bytes picture(int width, int height) {
  Bytes pixels(static_cast<size_t>(width) * height * 3);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      uint8_t* p = &pixels[(static_cast<size_t>(y) * width + x) * 3];
      p[0] = static_cast<uint8_t>(x * 7 + y);
      p[1] = static_cast<uint8_t>(y * 5);
      p[2] = static_cast<uint8_t>((x / 8 + y / 8) % 2 * 200);
    }
  }
  return pixels;
}

inline Bytes png_of(const Bytes& pixels, int width, int height) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = 0;
  png_image_write_to_memory(&image, nullptr, &size, 0, pixels.data(), 0, nullptr);
  Bytes bytes(size);
  png_image_write_to_memory(&image, bytes.data(), &size, 0, pixels.data(), 0, nullptr);
  return bytes;
}

inline Bytes webp_of(const Bytes& pixels, int width, int height) {
  uint8_t* out = nullptr;
  const size_t size = WebPEncodeLosslessRGB(pixels.data(), width, height, width * 3, &out);
  Bytes bytes(out, out + size);
  WebPFree(out);
  return bytes;
}

struct Collector : lds::RowSink {
  explicit Collector(size_t row_bytes) : row_bytes(row_bytes) {}
  void push(const uint8_t* row) override { pixels.insert(pixels.end(), row, row + row_bytes); }
  size_t row_bytes;
  Bytes pixels;
};

inline Bytes decode(lds::Decoder& decoder, const Bytes& file, const lds::DecodeOptions& options = {}) {
  const lds::ImageInfo info = decoder.open(file.data(), file.size(), options);
  Collector rows(static_cast<size_t>(info.width) * options.channels);
  decoder.read({0, 0, info.width, info.height}, rows);
  return rows.pixels;
}
