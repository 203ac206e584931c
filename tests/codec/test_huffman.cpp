// Compares HuffmanScan with libjpeg's own Huffman decoder: the same pixels, and the same errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>

#include "codec/decode.h"
#include "common/error.h"
#include "jpeg_of.h"

namespace {

using lds::IntBox;

struct Outcome {
  Bytes pixels;
  std::string error;
  bool operator==(const Outcome&) const = default;
};

// Decodes the box of the image, or the whole image without a box, at a DCT scale of 1 / denominator.
Outcome decoded(lds::Decoder& decoder, const Bytes& file, bool libjpeg, const IntBox* box = nullptr,
                int denominator = 1) {
  struct Collector : lds::RowSink {
    void push(const uint8_t* row) override { pixels.insert(pixels.end(), row, row + row_bytes); }
    size_t row_bytes = 0;
    Bytes pixels;
  } rows;
  lds::DecodeOptions options;
  options.huffman_reader = libjpeg ? lds::HuffmanReader::libjpeg : lds::HuffmanReader::ours;
  options.max_pixels = 1 << 20;
  try {
    lds::ImageInfo info = decoder.open(file.data(), file.size(), options);
    if (denominator > 1) info = decoder.set_draft(info.width / denominator, info.height / denominator);
    const IntBox part = box ? *box : IntBox{0, 0, info.width, info.height};
    rows.row_bytes = static_cast<size_t>(part.width()) * 3;
    decoder.read(part, rows);
  } catch (const lds::Error& error) {
    return {{}, error.what()};
  }
  return {rows.pixels, ""};
}

// A picture between flat, and noise, which needs all coefficients and many stuffed bytes.
Bytes picture(std::mt19937& random, int width, int height) {
  const int noise = static_cast<int>(random() % 256), step = 1 + static_cast<int>(random() % 9);
  Bytes pixels(static_cast<size_t>(width) * height * 3);
  for (size_t i = 0; i < pixels.size(); ++i) {
    pixels[i] = static_cast<uint8_t>(i * step / 64 + (noise ? random() % noise : 0));
  }
  return pixels;
}

JpegOptions any_options(std::mt19937& random) {
  JpegOptions options;
  options.quality = 1 + static_cast<int>(random() % 100);
  options.across = 1 + static_cast<int>(random() % 2);
  options.down = 1 + static_cast<int>(random() % 2);
  options.restart_interval = random() % 3 ? 0 : 1 + random() % 9;
  options.gray = random() % 5 == 0;
  switch (random() % 4) {
    case 0: options.optimize = true; break;
    case 1: options.long_codes = true; break;
    default: break;
  }
  return options;
}

IntBox any_box(std::mt19937& random, int width, int height) {
  const int x0 = static_cast<int>(random() % width), y0 = static_cast<int>(random() % height);
  return {x0, y0, x0 + 1 + static_cast<int>(random() % (width - x0)),
          y0 + 1 + static_cast<int>(random() % (height - y0))};
}

}  // namespace

TEST_CASE("pixels equal libjpeg's for any table, sampling, box and scale") {
  lds::Decoder decoder;
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    const int width = 1 + static_cast<int>(random() % 150), height = 1 + static_cast<int>(random() % 150);
    const Bytes file = jpeg_of(picture(random, width, height), width, height, any_options(random));
    CAPTURE(i);
    const Outcome whole = decoded(decoder, file, false);
    CHECK(whole.error.empty());
    CHECK(whole == decoded(decoder, file, true));
    const IntBox box = any_box(random, width, height);
    CHECK(decoded(decoder, file, false, &box) == decoded(decoder, file, true, &box));
    for (const int denominator : {2, 4, 8}) {
      CHECK(decoded(decoder, file, false, nullptr, denominator) == decoded(decoder, file, true, nullptr, denominator));
    }
  }
}

TEST_CASE("damaged data gives libjpeg's errors, and an invalid code is always an error") {
  lds::Decoder decoder;
  std::mt19937 random(2);
  int failed = 0, invalid_codes = 0;
  for (int i = 0; i < 3000; ++i) {
    const int width = 1 + static_cast<int>(random() % 60), height = 1 + static_cast<int>(random() % 60);
    Bytes file = jpeg_of(picture(random, width, height), width, height, any_options(random));
    const size_t header = std::min<size_t>(file.size() / 2, 600);
    for (unsigned damage = 1 + random() % 3; damage > 0; --damage) {
      const size_t at = header + random() % (file.size() - header);
      switch (random() % 3) {
        case 0: file[at] = static_cast<uint8_t>(random()); break;
        case 1: file[at] ^= static_cast<uint8_t>(1U << random() % 8); break;
        default: file.erase(file.begin() + static_cast<ptrdiff_t>(at)); break;
      }
    }
    const IntBox box = any_box(random, width, height);
    const Outcome found = decoded(decoder, file, false, &box), expected = decoded(decoder, file, true, &box);
    CAPTURE(i);
    // libjpeg-turbo's fast loop decodes an invalid code as a zero
    if (found.error.find("bad Huffman code") != std::string::npos) {
      ++invalid_codes;
    } else {
      CHECK(found.error == expected.error);
      CHECK(found.pixels == expected.pixels);
    }
    failed += !found.error.empty();
  }
  CHECK(failed > 100);
  CHECK(invalid_codes > 10);
}
