// Whichever allocation of a decoder fails, ours or a library's: the error says that memory was short, and the next
// image is right.
#include <doctest/doctest.h>

#include <algorithm>
#include <new>
#include <string>
#include <vector>

#include "codec/jpeg_library.h"
#include "common/error.h"
#include "failing_malloc.h"
#include "images_of.h"

namespace {

constexpr int kWidth = 45, kHeight = 38;

struct Named {
  std::string name;
  Bytes file;
};

// Inserts an EXIF block with a rotation.
Bytes turned(const Bytes& jpeg) {
  const std::string exif(
      "\xFF\xE1\x00\x22"
      "Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
      36);
  Bytes file(jpeg.size() + exif.size());
  const auto after_exif = std::copy(exif.begin(), exif.end(), std::copy_n(jpeg.begin(), 2, file.begin()));
  std::copy(jpeg.begin() + 2, jpeg.end(), after_exif);
  return file;
}

// Not lossless: when memory runs out, libwebp 1.2.4 frees an uninitialised pointer in a lossless image.
Bytes lossy_webp_of(const Bytes& pixels) {
  uint8_t* out = nullptr;
  const size_t size = WebPEncodeRGB(pixels.data(), kWidth, kHeight, kWidth * 3, 80, &out);
  Bytes file(out, out + size);
  WebPFree(out);
  return file;
}

std::vector<Named> files() {
  const Bytes pixels = picture(kWidth, kHeight);
  return {{"jpeg", jpeg_of(pixels, kWidth, kHeight)},
          {"restarts", jpeg_of(pixels, kWidth, kHeight, {.restart_interval = 2})},
          {"progressive", jpeg_of(pixels, kWidth, kHeight, {.progressive = true})},
          {"turned", turned(jpeg_of(pixels, kWidth, kHeight))},
          {"png", png_of(pixels, kWidth, kHeight)},
          {"webp", lossy_webp_of(pixels)}};
}

// Decodes, and returns whether memory was too short. If it was not, the pixels must be correct.
bool out_of_memory(lds::Decoder& decoder, const Bytes& file, const Bytes& expected) {
  try {
    const bool right = decode(decoder, file) == expected;
    CHECK(right);
  } catch (const std::bad_alloc&) {
    return true;
  } catch (const lds::Error& error) {
    const std::string message = error.what();
    INFO(message);
    CHECK(error.reason() == lds::Reason::too_large);
    return true;
  }
  return false;
}

}  // namespace

TEST_CASE("after an allocation that failed, every format is decoded right") {
  CHECK(lds::huffman_reader_agrees());
  for (const Named& one : files()) {
    INFO(one.name);
    lds::Decoder fresh;
    const Bytes expected = decode(fresh, one.file);
    int failures = 0;
    for (bool failed = true; failed; ++failures) {
      INFO("allocation " << failures);
      lds::Decoder decoder;
      bool short_of_memory = false;
      {
        const FailingMalloc memory(failures);
        short_of_memory = out_of_memory(decoder, one.file, expected);
        failed = memory.failed();
      }
      if (short_of_memory) CHECK(failed);
      CHECK(decode(decoder, one.file) == expected);
    }
    CHECK(failures > 5);
  }
}

TEST_CASE("a decoder that can't be made for lack of memory is an error") {
  int failures = 0;
  for (bool failed = true; failed; ++failures) {
    const FailingMalloc memory(failures);
    try {
      const lds::Decoder decoder;  // libjpeg tries again with a smaller size
    } catch (const std::bad_alloc&) {
      CHECK(memory.failed());
    }
    failed = memory.failed();
  }
  CHECK(failures > 3);
}

TEST_CASE("a lack of memory says nothing about libjpeg's structure") {
  int failures = 0;
  for (bool failed = true; failed; ++failures) {
    bool agree = true;
    const FailingMalloc memory(failures);
    try {
      agree = lds::compare_huffman_readers();
    } catch (const std::bad_alloc&) {
      CHECK(memory.failed());
    }
    CHECK(agree);
    failed = memory.failed();
  }
  CHECK(failures > 20);
}
