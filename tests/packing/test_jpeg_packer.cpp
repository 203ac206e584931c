// Rows that are JPEG files come in the order of the items, whatever the threads do.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "codec/images_of.h"
#include "common/error.h"
#include "common/file.h"
#include "failing_malloc.h"
#include "packing/insert_rows.h"
#include "packing/ordered_appender.h"
#include "packing/packer.h"
#include "store/hash.h"

namespace {

using namespace lds;

// An unnamed file that is deleted when it is closed.
struct TemporaryFile {
  std::unique_ptr<FILE, int (*)(FILE*)> file{std::tmpfile(), &std::fclose};
  int descriptor() const { return fileno(file.get()); }
  Bytes bytes() const {
    Bytes found(static_cast<size_t>(lseek(descriptor(), 0, SEEK_END)));
    CHECK(pread(descriptor(), found.data(), found.size(), 0) == static_cast<ssize_t>(found.size()));
    return found;
  }
};

Bytes row_of(int64_t item) { return Bytes(static_cast<size_t>(item % 7 * 100), static_cast<uint8_t>(item)); }

std::mt19937 random_of(unsigned seed) { return std::mt19937(seed); }

void append(Bytes& to, const Bytes& more) { to.insert(to.end(), more.begin(), more.end()); }

// Files of all ways to keep them, and some that fail.
std::vector<Bytes> mixed_files(int count) {
  std::vector<Bytes> files;
  for (int i = 0; i < count; ++i) {
    const int width = 20 + i % 13, height = 50 - i % 17;
    const Bytes pixels = picture(width, height);
    switch (i % 5) {
      case 0: files.push_back(jpeg_of(pixels, width, height)); break;
      case 1: files.push_back(jpeg_of(pixels, width, height, {.progressive = true})); break;
      case 2: files.push_back(png_of(pixels, width, height)); break;
      case 3: files.push_back({0xFF, 0xD8, 0xFF, 0}); break;
      default: files.push_back(webp_of(pixels, width, height)); break;
    }
  }
  return files;
}

std::vector<PackItem> items_of(const std::vector<Bytes>& files) {
  std::vector<PackItem> items(files.size());
  for (size_t i = 0; i < files.size(); ++i) {
    items[i].bytes = {reinterpret_cast<const char*>(files[i].data()), files[i].size()};
  }
  return items;
}

PackSpec jpeg_spec(int quality = 90) {
  PackSpec spec;
  spec.row.resize_h = 24;
  spec.row.crop_h = spec.row.crop_w = 0;
  spec.jpeg = JpegSpec{quality, false};
  return spec;
}

PackTarget to_file(const TemporaryFile& file) {
  PackTarget target;
  target.descriptor = file.descriptor();
  return target;
}

}  // namespace

TEST_CASE("pieces of any threads are written in order") {
  constexpr int64_t kItems = 2000;
  Bytes expected;
  for (int64_t i = 0; i < kItems; ++i) append(expected, row_of(i));
  const TemporaryFile file;
  write_exactly(file.descriptor(), expected.data(), 11, 0);
  OrderedAppender appender(file.descriptor(), 11);
  std::atomic<int64_t> next{0};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      Bytes piece;
      for (int64_t begin = next.fetch_add(3); begin < kItems; begin = next.fetch_add(3)) {
        const int64_t end = std::min(begin + 3, kItems);
        for (int64_t i = begin; i < end; ++i) append(piece, row_of(i));
        appender.put(begin, end, piece);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Bytes found = file.bytes();
  found.erase(found.begin(), found.begin() + 11);
  CHECK(found == expected);
}

TEST_CASE("threads that wait for an item that does not come are released") {
  OrderedAppender appender(-1, 0);
  Bytes large(size_t{65} << 20);
  appender.put(1, 2, large);
  std::thread waiting([&] {
    Bytes more(10);
    appender.put(2, 3, more);
  });
  appender.stop();
  waiting.join();
}

TEST_CASE("a thread that can't write gets the error") {
  const int descriptor = open("/dev/full", O_WRONLY);
  REQUIRE(descriptor >= 0);
  std::vector<Bytes> files = mixed_files(100);
  for (const int threads : {1, 4}) {
    Packer packer(jpeg_spec(), threads);
    PackTarget target;
    target.descriptor = descriptor;
    packer.start(items_of(files), {}, target);
    CHECK_THROWS_AS(packer.result(), Error);
  }
  close(descriptor);
}

TEST_CASE("rows are put in their places among those of a file") {
  std::mt19937 random = random_of(1);
  for (int round = 0; round < 60; ++round) {
    const TemporaryFile file, source;
    std::vector<int64_t> lengths(random() % 40);
    std::vector<uint8_t> inserted(lengths.size());
    Bytes expected(5, 0), here(5, 0), there;
    for (size_t i = 0; i < lengths.size(); ++i) {
      lengths[i] = static_cast<int64_t>(random() % 4 == 0 ? 0 : random() % (round % 10 == 0 ? 3'000'000 : 300));
      inserted[i] = random() % 3 == 0;
      const Bytes row(static_cast<size_t>(lengths[i]), static_cast<uint8_t>(i + 1));
      append(expected, row);
      append(inserted[i] ? there : here, row);
    }
    write_exactly(file.descriptor(), here.data(), static_cast<int64_t>(here.size()), 0);
    write_exactly(source.descriptor(), there.data(), static_cast<int64_t>(there.size()), 0);
    insert_rows(file.descriptor(), 5, lengths, inserted, source.descriptor());
    CHECK(file.bytes() == expected);
  }
  CHECK_THROWS_AS(insert_rows(0, 0, {1}, {}, 0), Error);
}

TEST_CASE("any number of threads writes the same JPEG rows, and failed items none") {
  const std::vector<Bytes> files = mixed_files(203);
  Bytes expected;
  PackResult first;
  for (const int threads : {1, 2, 5}) {
    const TemporaryFile file;
    Packer packer(jpeg_spec(), threads);
    for (int repeated = 0; repeated < 2; ++repeated) {
      packer.start(items_of(files), {}, to_file(file));
      const PackResult result = packer.result();
      if (threads == 1 && repeated == 0) {
        expected = file.bytes();
        first = result;
      }
      CHECK(file.bytes() == expected);
      CHECK(result.hashes == first.hashes);
      CHECK(result.jpeg.kept == first.jpeg.kept);
      CHECK(result.jpeg.bytes == first.jpeg.bytes);
      CHECK(result.jpeg.psnr == first.jpeg.psnr);
    }
  }
  CHECK(first.failures.size() == 40);
  int64_t at = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    const int64_t bytes = first.jpeg.bytes[i];
    CHECK((bytes == 0) == (i % 5 == 3));
    if (bytes > 0) CHECK(hash_bytes(expected.data() + at, bytes) == first.hashes[i]);
    at += bytes;
  }
  CHECK(at == static_cast<int64_t>(expected.size()));
}

TEST_CASE("a cancelled job of JPEG rows ends, and the next one is right") {
  const std::vector<Bytes> files = mixed_files(400);
  Packer packer(jpeg_spec(), 4);
  const TemporaryFile expected;
  packer.start(items_of(files), {}, to_file(expected));
  const PackResult whole = packer.result();
  for (int i = 0; i < 20; ++i) {
    const TemporaryFile file;
    packer.start(items_of(files), {}, to_file(file));
    while (packer.done() < int64_t{i} * 8) std::this_thread::yield();
    packer.cancel();
    try {
      static_cast<void>(packer.result());
    } catch (const Error& error) {
      CHECK(error.reason() == Reason::cancelled);
    }
  }
  const TemporaryFile file;
  packer.start(items_of(files), {}, to_file(file));
  CHECK(packer.result().hashes == whole.hashes);
  CHECK(file.bytes() == expected.bytes());
}

TEST_CASE("JPEG rows go to a file only, and their options are checked") {
  const Bytes memory(1000);
  PackTarget target;
  target.memory = const_cast<uint8_t*>(memory.data());
  target.memory_rows = 1;
  Packer packer(jpeg_spec(), 1);
  CHECK_THROWS_AS(packer.start({}, {}, target), Error);
  CHECK_THROWS_AS(Packer(jpeg_spec(0), 1), Error);
  PackSpec spec = jpeg_spec();
  spec.row.crop_h = spec.row.crop_w = 8;
  CHECK_THROWS_AS(Packer(spec, 1), Error);
}

TEST_CASE("a lack of memory fails a JPEG row or the job, and the next one is right") {
  const std::vector<Bytes> files = mixed_files(5);
  Packer whole(jpeg_spec(), 1);
  whole.start(items_of(files), {}, {});
  const PackResult expected = whole.result();
  for (const size_t i : {size_t{0}, size_t{1}, size_t{2}}) {  // libwebp 1.2.4 frees an uninitialised pointer
    int failures = 0;
    for (bool failed = true; failed; ++failures) {
      const PackSpec spec = jpeg_spec();
      PackWorker worker(spec);
      PackResult result = expected;
      Bytes out;
      {
        const FailingMalloc memory(failures);
        try {
          worker.pack_file(items_of(files)[i], 0, 0, out, result);
        } catch (const std::bad_alloc&) {
          CHECK(memory.failed());
        }
        failed = memory.failed();
      }
      Bytes again;
      worker.pack_file(items_of(files)[i], 0, 0, again, result);
      CHECK(hash_bytes(again.data(), static_cast<int64_t>(again.size())) == expected.hashes[i]);
      CHECK(result.hashes[0] == expected.hashes[i]);
    }
    CHECK(failures > 1);
  }
}
