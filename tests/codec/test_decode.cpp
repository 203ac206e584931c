// Tests Decoder with all formats: whole images, boxes, truncated and damaged files, orientation.
#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "codec/decode.h"
#include "codec/exif.h"
#include "common/error.h"
#include "images_of.h"
#include "packing/image_to_row.h"

using lds::DecodeOptions;
using lds::Decoder;
using lds::Error;
using lds::Format;
using lds::IntBox;
using lds::Reason;

namespace {

Reason failure(Decoder& decoder, const Bytes& file, const DecodeOptions& options = {}) {
  try {
    decode(decoder, file, options);
  } catch (const Error& error) {
    return error.reason();
  }
  return Reason::internal;
}

}  // namespace

TEST_CASE("decoding a lossless format returns the original pixels") {
  const Bytes pixels = picture(37, 29);
  Decoder decoder;
  CHECK(decode(decoder, png_of(pixels, 37, 29)) == pixels);
  CHECK(decode(decoder, webp_of(pixels, 37, 29)) == pixels);
}

TEST_CASE("a decoded box equals that part of the whole image, whatever was decoded before") {
  Decoder decoder;
  for (const bool progressive : {false, true}) {
    const Bytes file = jpeg_of(picture(90, 70), 90, 70, {.progressive = progressive});
    const Bytes whole = decode(decoder, file);
    for (const IntBox& box :
         {IntBox{0, 0, 90, 70}, IntBox{13, 9, 14, 10}, IntBox{31, 17, 90, 70}, IntBox{5, 33, 60, 50}}) {
      decoder.open(file.data(), file.size(), {});
      Collector rows(static_cast<size_t>(box.width()) * 3);
      decoder.read(box, rows);
      Bytes expected;
      for (int y = box.y0; y < box.y1; ++y) {
        const uint8_t* row = &whole[(static_cast<size_t>(y) * 90 + box.x0) * 3];
        expected.insert(expected.end(), row, row + box.width() * 3);
      }
      CHECK(rows.pixels == expected);
    }
  }
}

TEST_CASE("files truncated at any length are errors, or are decoded partly with keep_truncated") {
  Decoder decoder;
  const Bytes pixels = picture(24, 24);
  for (const Bytes& file : {jpeg_of(pixels, 24, 24), jpeg_of(pixels, 24, 24, {.progressive = true}),
                            png_of(pixels, 24, 24), webp_of(pixels, 24, 24)}) {
    for (size_t length = 0; length < file.size(); ++length) {
      // a copy of exactly this length, so that the sanitizer detects reads past its end
      const Bytes cut(file.begin(), file.begin() + static_cast<ptrdiff_t>(length));
      const Reason reason = failure(decoder, cut);
      CHECK((reason == Reason::truncated || reason == Reason::corrupt || reason == Reason::unsupported));
      DecodeOptions keep;
      keep.keep_truncated = true;
      try {
        const Bytes kept = decode(decoder, cut, keep);
        CHECK(kept.size() == pixels.size());
      } catch (const Error& error) {
        CHECK(error.reason() != Reason::internal);
      }
    }
    decode(decoder, file);
  }
}

TEST_CASE("a damaged byte anywhere in a file is at most an error") {
  Decoder decoder;
  const Bytes pixels = picture(20, 20);
  DecodeOptions options;
  options.max_pixels = 100000;
  for (Bytes file : {jpeg_of(pixels, 20, 20), jpeg_of(pixels, 20, 20, {.progressive = true}), png_of(pixels, 20, 20),
                     webp_of(pixels, 20, 20)}) {
    for (uint8_t& byte : file) {
      const uint8_t before = byte;
      for (const int damage : {0x01, 0x80, 0xFF}) {
        byte = static_cast<uint8_t>(before ^ damage);
        try {
          decode(decoder, file, options);
        } catch (const Error& error) {
          CHECK(error.reason() != Reason::internal);
        }
      }
      byte = before;
    }
    CHECK(decode(decoder, file).size() == pixels.size());
  }
}

TEST_CASE("sizes are checked before anything is allocated") {
  Decoder decoder;
  DecodeOptions options;
  options.max_pixels = 24 * 24 - 1;
  const Bytes pixels = picture(24, 24);
  CHECK(failure(decoder, jpeg_of(pixels, 24, 24), options) == Reason::too_large);
  CHECK(failure(decoder, png_of(pixels, 24, 24), options) == Reason::too_large);
  CHECK(failure(decoder, webp_of(pixels, 24, 24), options) == Reason::too_large);
}

TEST_CASE("a box outside the image, and a read without an open, are errors") {
  Decoder decoder;
  Collector rows(3);
  CHECK_THROWS_AS(decoder.read({0, 0, 1, 1}, rows), Error);
  const Bytes file = jpeg_of(picture(8, 8), 8, 8);
  decoder.open(file.data(), file.size(), {});
  CHECK_THROWS_AS(decoder.read({0, 0, 9, 8}, rows), Error);
  CHECK_THROWS_AS(decoder.read({4, 4, 4, 8}, rows), Error);
  CHECK_NOTHROW(decoder.read({4, 4, 5, 5}, rows));
  CHECK_THROWS_AS(decoder.read({4, 4, 5, 5}, rows), Error);
}

TEST_CASE("a sink that throws leaves the decoder ready for the next file") {
  struct Thrower : lds::RowSink {
    void push(const uint8_t*) override { throw Error(Reason::cancelled, "cancelled"); }
  };
  Decoder decoder;
  const Bytes pixels = picture(24, 24);
  for (const Bytes& file : {jpeg_of(pixels, 24, 24), png_of(pixels, 24, 24), webp_of(pixels, 24, 24)}) {
    Thrower thrower;
    const Bytes expected = decode(decoder, file);
    decoder.open(file.data(), file.size(), {});
    CHECK_THROWS_AS(decoder.read({0, 0, 24, 24}, thrower), Error);
    CHECK(decode(decoder, file) == expected);
  }
}

TEST_CASE("decoders in several threads are independent") {
  const Bytes pixels = picture(60, 50);
  const Bytes file = jpeg_of(pixels, 60, 50, {.progressive = true});
  Decoder first;
  const Bytes expected = decode(first, file);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Decoder decoder;
      for (int i = 0; i < 10; ++i) wrong[t] += decode(decoder, file) != expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

TEST_CASE("a row is the resized and cropped image, and a small image is padded with zeros") {
  const Bytes file = png_of(picture(10, 10), 10, 10);
  lds::RowSpec spec;
  spec.resize_h = spec.resize_w = 0;
  spec.crop_h = spec.out_h = 12;
  spec.crop_w = spec.out_w = 4;
  spec.planar = false;
  lds::ImageToRow rows(spec);
  Bytes out(12 * 4 * 3, 99);
  const lds::RowResult result = rows.convert(file.data(), file.size(), out.data());
  CHECK(result.width == 10);
  const Bytes pixels = picture(10, 10);
  for (int y = 0; y < 12; ++y) {
    for (int i = 0; i < 12; ++i) {
      const int expected = y == 0 || y == 11 ? 0 : pixels[static_cast<size_t>(y - 1) * 30 + 9 + i];
      CHECK(out[static_cast<size_t>(y) * 12 + i] == expected);
    }
  }
}

TEST_CASE("the orientation is read from EXIF, else from XMP") {
  using namespace std::string_view_literals;
  const std::string_view six = "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"sv;
  CHECK(lds::exif_orientation(six) == 6);
  for (size_t length = 0; length < 22; ++length)
    CHECK(lds::exif_orientation(six.substr(0, length)) == lds::kNoOrientation);
  CHECK(lds::xmp_orientation("tiff:Orientation=\"8\"") == 8);
  CHECK(lds::xmp_orientation("tiff:Orientation>3<") == 3);
  CHECK(lds::xmp_orientation("tiff:Orientation=\"") == lds::kNoOrientation);
  CHECK(lds::merge_orientation(lds::kNoOrientation, 8) == 8);
  CHECK(lds::merge_orientation(0, 8) == 1);
}
