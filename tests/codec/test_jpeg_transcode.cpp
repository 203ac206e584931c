// Copies of JPEG files have the pixels of the file; what is kept as it is was looked at within its bounds.
#include <doctest/doctest.h>

#include <new>
#include <random>
#include <string_view>
#include <vector>

#include "codec/decode.h"
#include "codec/jpeg_encode.h"
#include "codec/jpeg_structure.h"
#include "codec/jpeg_transcode.h"
#include "common/error.h"
#include "failing_malloc.h"
#include "images_of.h"

namespace {

using namespace lds;

Bytes bytes_of(std::string_view file) { return {file.begin(), file.end()}; }

Bytes copy_of(JpegTranscoder& transcoder, const Bytes& file, int orientation = 1) {
  return bytes_of(transcoder.transcode(file.data(), file.size(), orientation, 1 << 20));
}

std::mt19937 random_of(unsigned seed) { return std::mt19937(seed); }

std::vector<JpegOptions> kinds() {
  std::vector<JpegOptions> found;
  for (const bool progressive : {false, true}) {
    for (const bool arithmetic : {false, true}) {
      for (const auto& [across, down] : {std::pair{1, 1}, {2, 2}, {2, 1}, {1, 2}, {4, 1}}) {
        JpegOptions options;
        options.progressive = progressive;
        options.arithmetic = arithmetic;
        options.across = across;
        options.down = down;
        found.push_back(options);
        options.restart_interval = 3;
        found.push_back(options);
      }
    }
  }
  JpegOptions options;
  options.separate_scans = true;
  found.push_back(options);
  options = {};
  options.rgb = true;
  options.progressive = true;
  found.push_back(options);
  options = {};
  options.gray = true;
  found.push_back(options);
  options.arithmetic = true;
  found.push_back(options);
  options = {};
  options.long_codes = true;
  found.push_back(options);
  options = {};
  options.quality = 1;
  options.progressive = true;
  found.push_back(options);
  return found;
}

}  // namespace

TEST_CASE("a copy has the same pixels and restart markers, whatever the file is") {
  Decoder decoder;
  JpegTranscoder transcoder;
  for (const JpegOptions& options : kinds()) {
    for (const auto& [width, height] : {std::pair{70, 45}, {1, 1}, {16, 33}, {65, 8}}) {
      const Bytes file = jpeg_of(picture(width, height), width, height, options);
      const JpegStructure source = inspect_jpeg(file.data(), file.size());
      CHECK(source.width == width);
      CHECK(source.height == height);
      CHECK(source.plain == !(options.progressive || options.arithmetic || options.separate_scans));
      const Bytes copy = copy_of(transcoder, file);
      const JpegStructure structure = inspect_jpeg(copy.data(), copy.size());
      CHECK(structure.plain);
      CHECK(structure.row_restarts);
      CHECK(structure.metadata == 0);
      CHECK(structure.end == copy.size());
      CHECK(decode(decoder, copy) == decode(decoder, file));
      CHECK(copy_of(transcoder, copy) == copy);
    }
  }
}

TEST_CASE("a copy says how it is turned") {
  JpegTranscoder transcoder;
  Decoder decoder;
  const Bytes file = jpeg_of(picture(30, 20), 30, 20);
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Bytes copy = copy_of(transcoder, file, orientation);
    CHECK(decoder.open(copy.data(), copy.size(), {}).orientation == orientation);
    CHECK(inspect_jpeg(copy.data(), copy.size()).metadata == (orientation == 1 ? 0u : 36u));
  }
}

TEST_CASE("files that are cut off or too large have no copy, and the next one has") {
  JpegTranscoder transcoder;
  const Bytes good = jpeg_of(picture(40, 30), 40, 30, {.progressive = true});
  const Bytes expected = copy_of(transcoder, good);
  for (size_t size = 0; size < good.size(); ++size) {
    const Bytes cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    CHECK_THROWS_AS(copy_of(transcoder, cut), Error);
  }
  CHECK_THROWS_AS(transcoder.transcode(good.data(), good.size(), 1, 40 * 30 - 1), Error);
  CHECK(copy_of(transcoder, good) == expected);
}

TEST_CASE("damaged files are looked at and copied within their bounds") {
  std::mt19937 random = random_of(3);
  JpegTranscoder transcoder;
  for (const JpegOptions& options : {JpegOptions{}, {.restart_interval = 2}, {.progressive = true}, {.gray = true}}) {
    const Bytes good = jpeg_of(picture(40, 30), 40, 30, options);
    for (int i = 0; i < 600; ++i) {
      Bytes bad = good;
      for (unsigned n = random() % 3 + 1; n > 0; --n) bad[random() % bad.size()] = static_cast<uint8_t>(random());
      if (i % 3 == 0) bad.resize(random() % bad.size());
      bad.shrink_to_fit();
      const JpegStructure structure = inspect_jpeg(bad.data(), bad.size());
      CHECK(structure.end <= bad.size());
      CHECK((structure.end > 0) == structure.plain);
      try {
        static_cast<void>(copy_of(transcoder, bad));
      } catch (const Error&) {
        continue;
      }
    }
  }
}

TEST_CASE("what is encoded is a plain file with restart markers, and close to its pixels") {
  JpegEncoder encoder;
  Decoder decoder;
  for (const int channels : {1, 3}) {
    for (const auto& [width, height] : {std::pair{70, 45}, {1, 1}, {300, 20}, {17, 200}}) {
      const Bytes pixels(static_cast<size_t>(width * height * channels), 77);
      const auto view = ConstImageView::hwc(pixels.data(), height, width, channels);
      const Bytes file = bytes_of(encoder.encode(view, 90));
      const JpegStructure structure = inspect_jpeg(file.data(), file.size());
      CHECK(structure.plain);
      CHECK(structure.row_restarts);
      CHECK(structure.components == channels);
      DecodeOptions options;
      options.channels = channels;
      CHECK(decode(decoder, file, options) == pixels);
    }
  }
  const Bytes line(size_t{70'000} * 3);
  CHECK_THROWS_AS(encoder.encode(ConstImageView::hwc(line.data(), 1, 70'000, 3), 90), Error);
}

TEST_CASE("a lack of memory while encoding or copying is bad_alloc, and the next file is right") {
  const Bytes pixels = picture(200, 300), file = jpeg_of(pixels, 200, 300, {.progressive = true});
  const auto view = ConstImageView::hwc(pixels.data(), 300, 200, 3);
  const Bytes encoded = bytes_of(JpegEncoder().encode(view, 95));
  JpegTranscoder plain;
  const Bytes copied = copy_of(plain, file);
  for (const bool copies : {false, true}) {
    int failures = 0;
    for (bool failed = true; failed; ++failures) {
      JpegEncoder encoder;
      JpegTranscoder transcoder;
      {
        const FailingMalloc memory(failures);
        try {
          static_cast<void>(copies ? transcoder.transcode(file.data(), file.size(), 1, 1 << 20)
                                   : encoder.encode(view, 95));
        } catch (const std::bad_alloc&) {
          CHECK(memory.failed());
        }
        failed = memory.failed();
      }
      CHECK((copies ? copy_of(transcoder, file) : bytes_of(encoder.encode(view, 95))) == (copies ? copied : encoded));
    }
    CHECK(failures > 3);
  }
}
