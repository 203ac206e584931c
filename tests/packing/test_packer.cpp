// Compares the rows, sums and files of a Packer with those that a single thread computes in memory.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "common/file.h"
#include "no_threads.h"
#include "packing/close_gaps.h"
#include "packing/packer.h"
#include "store/hash.h"

namespace {

using namespace lds;
using Bytes = std::vector<uint8_t>;

Bytes noise(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(n);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

// An unnamed file that is deleted when it is closed.
struct TemporaryFile {
  std::unique_ptr<FILE, int (*)(FILE*)> file{std::tmpfile(), &std::fclose};
  int descriptor() const { return fileno(file.get()); }
  Bytes bytes(size_t n) const {
    Bytes found(n);
    CHECK(pread(descriptor(), found.data(), n, 0) == static_cast<ssize_t>(n));
    return found;
  }
};

constexpr int kSide = 9;

PackSpec small_spec() {
  PackSpec spec;
  spec.row.resize_h = spec.row.resize_w = 7;
  spec.row.crop_h = spec.row.crop_w = 0;
  spec.row.out_h = spec.row.out_w = 7;
  return spec;
}

PackTarget to_file(const TemporaryFile& file, std::vector<int64_t> rows = {}) {
  PackTarget target;
  target.descriptor = file.descriptor();
  target.rows = std::move(rows);
  return target;
}

std::vector<PackItem> items_of(const std::vector<Bytes>& images) {
  std::vector<PackItem> items(images.size());
  for (size_t i = 0; i < images.size(); ++i) items[i].pixels = ConstImageView::hwc(images[i].data(), kSide, kSide, 3);
  return items;
}

}  // namespace

TEST_CASE("sums of channels equal those of a plain loop") {
  for (const int channels : {1, 2, 3, 4}) {
    for (const int64_t pixels : {1, 15, 16, 17, 1000, 40000}) {
      Bytes image = noise(static_cast<size_t>(pixels * channels), 1);
      if (pixels == 40000) image.assign(image.size(), 255);  // narrow sums would overflow
      for (const bool planar : {false, true}) {
        ChannelSums expected;
        for (int64_t i = 0; i < pixels * channels; ++i) {
          const auto c = static_cast<size_t>(planar ? i / pixels : i % channels);
          const uint64_t value = image[static_cast<size_t>(i)];
          expected.total[c] += value;
          expected.squares[c] += value * value;
        }
        ChannelSums sums;
        sums.add(image.data(), pixels, channels, planar);
        CHECK(sums.count == static_cast<uint64_t>(pixels));
        CHECK(sums.total == expected.total);
        CHECK(sums.squares == expected.squares);
      }
    }
  }
}

TEST_CASE("closing gaps keeps the rows in order") {
  constexpr int64_t kRow = 5;
  const Bytes rows = noise(64 * kRow, 2);
  for (const std::vector<int64_t>& kept : {std::vector<int64_t>{}, {0, 1, 2}, {3}, {0, 2, 3, 4, 9, 63}, {60, 61, 62}}) {
    const TemporaryFile file;
    write_exactly(file.descriptor(), rows.data(), static_cast<int64_t>(rows.size()), 0);
    close_gaps(file.descriptor(), 0, kRow, kept);
    const Bytes found = file.bytes(kept.size() * kRow);
    for (size_t i = 0; i < kept.size(); ++i) {
      for (int64_t at = 0; at < kRow; ++at) {
        CHECK(found[i * kRow + static_cast<size_t>(at)] == rows[static_cast<size_t>(kept[i] * kRow + at)]);
      }
    }
  }
}

TEST_CASE("any number of threads writes the same rows as one thread") {
  std::vector<Bytes> images(300);
  for (size_t i = 0; i < images.size(); ++i) images[i] = noise(kSide * kSide * 3, static_cast<unsigned>(i));
  const PackSpec spec = small_spec();
  Bytes expected(images.size() * 7 * 7 * 3);
  ChannelSums sums;
  ImageToRow one(spec.row);
  for (size_t i = 0; i < images.size(); ++i) {
    one.convert_pixels(ConstImageView::hwc(images[i].data(), kSide, kSide, 3), expected.data() + i * 147);
    sums.add(expected.data() + i * 147, 49, 3, true);
  }
  for (const int threads : {1, 2, 8}) {
    Packer packer(spec, threads);
    REQUIRE(packer.sample_bytes() == 147);
    for (int job = 0; job < 2; ++job) {
      const TemporaryFile file;
      packer.start(items_of(images), {}, to_file(file));
      while (!packer.wait(0.01)) {
      }
      CHECK(packer.done() == 300);
      const PackResult result = packer.result();
      CHECK(file.bytes(expected.size()) == expected);
      CHECK(result.failures.empty());
      CHECK(result.sums.squares == sums.squares);
      CHECK(result.hashes[299] == hash_bytes(expected.data() + 299 * 147, 147));
    }
  }
}

TEST_CASE("pixels of either layout become rows of either layout") {
  const Bytes image = noise(kSide * kSide * 3, 3);
  Bytes planes(image.size());
  for (size_t i = 0; i < image.size(); ++i) planes[i % 3 * kSide * kSide + i / 3] = image[i];
  for (const bool resized : {false, true}) {
    for (const bool planar : {false, true}) {
      PackSpec spec = small_spec();
      if (!resized) spec.row.resize_h = spec.row.resize_w = 0;
      if (!resized) spec.row.out_h = spec.row.out_w = kSide;
      spec.row.planar = planar;
      std::vector<PackItem> items(2);
      items[0].pixels = ConstImageView::hwc(image.data(), kSide, kSide, 3);
      items[1].pixels = ConstImageView::chw(planes.data(), kSide, kSide, 3);
      Packer packer(spec, 1);
      const auto bytes = static_cast<size_t>(packer.sample_bytes());
      const TemporaryFile file;
      packer.start(items, {}, to_file(file));
      const PackResult result = packer.result();
      CHECK(result.failures.empty());
      CHECK(result.hashes[0] == result.hashes[1]);
      Bytes expected(bytes);
      ImageToRow(spec.row).convert_pixels(items[0].pixels, expected.data());
      CHECK(hash_bytes(expected.data(), static_cast<int64_t>(bytes)) == result.hashes[0]);
      if (!resized) CHECK(expected == (planar ? planes : image));
    }
  }
}

TEST_CASE("rows in memory equal rows in a file") {
  std::vector<Bytes> images(50);
  for (size_t i = 0; i < images.size(); ++i) images[i] = noise(kSide * kSide * 3, static_cast<unsigned>(i));
  Packer packer(small_spec(), 2);
  const TemporaryFile file;
  packer.start(items_of(images), {}, to_file(file));
  const PackResult expected = packer.result();
  Bytes memory(images.size() * 147), reversed(memory.size());
  PackTarget target;
  target.memory = memory.data();
  target.memory_rows = 50;
  packer.start(items_of(images), {}, target);
  CHECK(packer.result().hashes == expected.hashes);
  CHECK(memory == file.bytes(memory.size()));

  target.memory = reversed.data();
  for (int64_t i = 0; i < 50; ++i) target.rows.push_back(49 - i);
  packer.start(items_of(images), {}, target);
  packer.result();
  for (size_t i = 0; i < 50; ++i) {
    CHECK(std::equal(memory.begin() + static_cast<int64_t>(i) * 147, memory.begin() + static_cast<int64_t>(i + 1) * 147,
                     reversed.begin() + static_cast<int64_t>(49 - i) * 147));
  }

  target.rows[3] = 50;
  CHECK_THROWS_AS(packer.start(items_of(images), {}, target), Error);
  target.rows[3] = -1;
  CHECK_THROWS_AS(packer.start(items_of(images), {}, target), Error);
  target.rows.clear();
  target.memory_rows = 49;
  CHECK_THROWS_AS(packer.start(items_of(images), {}, target), Error);
}

TEST_CASE("failures have the index of their item, and rows are written to their targets") {
  const std::vector<Bytes> images{noise(kSide * kSide * 3, 1), noise(kSide * kSide * 3, 2)};
  std::vector<PackItem> items = items_of(images);
  items.resize(5);
  items[2].path = "/no/such/file.jpg";
  items[3].bytes = "not an image";
  items[4].path = "/no/such/file.tar";
  items[4].length = 3;
  Packer packer(small_spec(), 2);
  const TemporaryFile file;
  packer.start(items, {}, to_file(file, {4, 3, 2, 1, 0}));
  const PackResult result = packer.result();
  REQUIRE(result.failures.size() == 3);
  CHECK(result.failures[0].item == 2);
  CHECK(result.failures[0].reason == Reason::io);
  CHECK(result.failures[1].reason == Reason::unsupported);
  CHECK(result.failures[2].reason == Reason::io);
  CHECK(result.hashes[2] == 0);
  const Bytes found = file.bytes(5 * 147);
  CHECK(hash_bytes(found.data() + 4 * 147, 147) == result.hashes[0]);
  CHECK(hash_bytes(found.data() + 3 * 147, 147) == result.hashes[1]);
}

TEST_CASE("a job that can't write throws, a cancelled job throws, and the packer remains usable") {
  const std::vector<Bytes> images(500, noise(kSide * kSide * 3, 1));
  Packer packer(small_spec(), 2);
  const TemporaryFile file;
  const int read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);
  packer.start(items_of(images), {}, {read_only});
  CHECK_THROWS_AS(packer.result(), Error);
  close(read_only);
  packer.start(items_of(images), {}, to_file(file));
  packer.cancel();
  CHECK_THROWS_AS(packer.result(), Error);
  packer.start(items_of(images), {}, to_file(file));
  const PackResult result = packer.result();
  CHECK(result.sums.count == 500 * 49);
  CHECK_THROWS_AS(packer.start(items_of(images), {1, 2}, {}), Error);
}

TEST_CASE("invalid specs are errors") {
  PackSpec spec = small_spec();
  spec.variants = 2;
  CHECK_THROWS_AS(Packer(spec, 1), Error);
  spec = small_spec();
  spec.value_bytes = 3;
  CHECK_THROWS_AS(Packer(spec, 1), Error);
  spec.value_bytes = 2;
  CHECK_THROWS_AS(Packer(spec, 1), Error);
  spec.table.resize(3 * 256 * 2);
  CHECK(Packer(spec, 1).sample_bytes() == 294);
}

#if !defined(__SANITIZE_THREAD__)  // TSan does not support a forked child of a process that had threads
TEST_CASE("if no thread can be started, the job fails and ends") {
  const std::vector<Bytes> images(3, noise(kSide * kSide * 3, 1));
  CHECK(without_threads([&] {
    Packer packer(small_spec(), 2);
    for (int job = 0; job < 2; ++job) {
      try {
        packer.start(items_of(images), {}, {});
        return false;
      } catch (const Error& error) {
        if (error.reason() != Reason::io) return false;
      }
      if (!packer.wait(0)) return false;
    }
    return true;
  }));
}
#endif

TEST_CASE("arrays of values become rows of the same values, whatever their layout") {
  constexpr int kChannels = 5;
  PackSpec spec = small_spec();
  spec.row.resize_h = spec.row.resize_w = 0;
  spec.row.crop_h = spec.row.crop_w = 7;
  spec.row.decode.channels = kChannels;
  spec.values = PixelType::uint16;
  spec.value_bytes = 2;
  const Bytes planar = noise(size_t{kChannels} * kSide * kSide * 2, 3);
  Bytes interleaved(planar.size()), expected;
  const auto at = [](int c, int y, int x) { return static_cast<size_t>(((c * kSide + y) * kSide + x) * 2); };
  for (int c = 0; c < kChannels; ++c) {
    for (int y = 0; y < kSide; ++y) {
      for (int x = 0; x < kSide; ++x) {
        for (size_t byte = 0; byte < 2; ++byte) {
          const uint8_t value = planar[at(c, y, x) + byte];
          interleaved[static_cast<size_t>(((y * kSide + x) * kChannels + c) * 2) + byte] = value;
          if (x > 0 && x < 8 && y > 0 && y < 8) expected.push_back(value);
        }
      }
    }
  }
  const ImageLayout layout{kChannels, {kSide, kSide}, true, PixelType::uint16};
  std::vector<PackItem> items(2);
  items[0].pixels = layout.view(planar.data());
  ImageLayout other = layout;
  other.planar = false;
  items[1].pixels = other.view(interleaved.data());
  for (PackItem& item : items) item.type = PixelType::uint16;
  Bytes rows(2 * expected.size());
  PackTarget target;
  target.memory = rows.data();
  target.memory_rows = 2;
  Packer packer(spec, 2);
  packer.start(items, {}, target);
  const PackResult result = packer.result();
  CHECK(result.failures.empty());
  CHECK(result.sums.count == 0);
  CHECK(Bytes(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(expected.size())) == expected);
  CHECK(Bytes(rows.begin() + static_cast<ptrdiff_t>(expected.size()), rows.end()) == expected);

  items[1].type = PixelType::int16;
  items[0].pixels.channels = 4;
  packer.start(items, {}, target);
  CHECK(packer.result().failures.size() == 2);
  spec.value_bytes = 1;
  CHECK_THROWS_AS(Packer(spec, 2), Error);
}
