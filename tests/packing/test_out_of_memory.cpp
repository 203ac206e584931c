// Tests that a failed allocation only affects its image, or its job: the next one is packed correctly.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "codec/images_of.h"
#include "common/error.h"
#include "common/file.h"
#include "failing_malloc.h"
#include "packing/image_to_row.h"
#include "packing/packer.h"

namespace {

// A file with a path that is too long for std::string's internal buffer.
struct TemporaryFile {
  explicit TemporaryFile(const Bytes& bytes) {
    const int descriptor = mkstemp(path.data());
    REQUIRE(descriptor >= 0);
    lds::write_exactly(descriptor, bytes.data(), static_cast<int64_t>(bytes.size()), 0);
    close(descriptor);
  }
  ~TemporaryFile() { unlink(path.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  std::string path = "/tmp/largeds_native_out_of_memory_XXXXXX";
};

lds::RowSpec row_spec() {
  lds::RowSpec spec;
  spec.resize_h = spec.resize_w = spec.out_h = spec.out_w = 24;
  spec.crop_h = spec.crop_w = 0;
  return spec;
}

Bytes noise(size_t n, int seed) {
  Bytes bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 249 * 13 + static_cast<size_t>(seed) * 31);
  return bytes;
}

lds::PackItem whole_file(const TemporaryFile& file) {
  lds::PackItem item;
  item.path = file.path;
  return item;
}

lds::PackItem part_of(const TemporaryFile& file, const Bytes& bytes) {
  lds::PackItem item = whole_file(file);
  item.length = static_cast<int64_t>(bytes.size());
  return item;
}

}  // namespace

TEST_CASE("after a failed allocation, the same image gives the correct row") {
  constexpr int kHeight = 61, kWidth = 83;
  const Bytes pixels = noise(size_t{kHeight} * kWidth * 3, 0);
  const auto view = lds::ConstImageView::hwc(pixels.data(), kHeight, kWidth, 3);
  for (const lds::Filter filter : {lds::Filter::nearest, lds::Filter::bilinear, lds::Filter::lanczos}) {
    lds::RowSpec spec = row_spec();
    spec.filter = filter;
    Bytes expected(size_t{24} * 24 * 3), found(expected.size());
    lds::ImageToRow(spec).convert_pixels(view, expected.data());
    int failures = 0;
    for (bool failed = true; failed; ++failures) {
      lds::ImageToRow rows(spec);
      {
        const FailingMalloc memory(failures);
        try {
          rows.convert_pixels(view, found.data());
        } catch (const std::bad_alloc&) {
          CHECK(memory.failed());
        }
        failed = memory.failed();
      }
      rows.convert_pixels(view, found.data());
      CHECK(found == expected);
    }
    CHECK(failures > 5);
  }
}

TEST_CASE("whatever a worker keeps between images, a lack of memory leaves it right") {
  const Bytes large = jpeg_of(noise(size_t{60} * 50 * 3, 1), 60, 50),
              small = png_of(noise(size_t{30} * 30 * 3, 2), 30, 30);
  const TemporaryFile first(large), second(small);
  const std::vector<lds::PackItem> items = {part_of(first, large), part_of(second, small), whole_file(first),
                                            whole_file(second)};
  lds::PackSpec spec;
  spec.row = row_spec();
  std::vector<uint64_t> expected;
  lds::PackWorker fresh(spec);
  Bytes out(static_cast<size_t>(fresh.bytes()));
  for (const lds::PackItem& item : items) expected.push_back(fresh.pack(item, 0, 0, out.data()).hash);
  for (size_t wanting = 0; wanting < items.size(); ++wanting) {
    int failures = 0;
    for (bool failed = true; failed; ++failures) {
      lds::PackWorker worker(spec);
      worker.pack(items[0], 0, 0, out.data());
      {
        const FailingMalloc memory(failures);
        try {
          worker.pack(items[wanting], 0, 0, out.data());
        } catch (const std::bad_alloc&) {
          CHECK(memory.failed());  // recording the failure failed, too
        }
        failed = memory.failed();
      }
      for (size_t i = 0; i < items.size(); ++i) CHECK(worker.pack(items[i], 0, 0, out.data()).hash == expected[i]);
    }
  }
}

TEST_CASE("a job that lacks memory on any of its threads fails, or some of its images do, and the next is right") {
  const Bytes file = jpeg_of(noise(size_t{60} * 50 * 3, 1), 60, 50);
  std::vector<lds::PackItem> items(20);
  for (lds::PackItem& item : items) item.bytes = {reinterpret_cast<const char*>(file.data()), file.size()};
  lds::PackSpec spec;
  spec.row = row_spec();
  lds::Packer packer(spec, 2);
  packer.start(items, {}, {});
  const lds::PackResult expected = packer.result();
  REQUIRE(expected.failures.empty());
  bool failed = true;
  for (int nth = 0; failed; ++nth) {
    std::vector<lds::PackItem> again = items;
    lds::Packer fresh(spec, 2);
    {
      const FailingMalloc memory(nth, FailingMalloc::Threads::all);
      try {
        fresh.start(std::move(again), {}, {});
        while (!fresh.wait(1)) {
        }
        const lds::PackResult result = fresh.result();
        size_t wrong = 0;
        for (const uint64_t hash : result.hashes) wrong += hash != expected.hashes[0];
        CHECK(wrong == result.failures.size());
      } catch (const std::bad_alloc&) {
        CHECK(memory.failed());
      } catch (const lds::Error& error) {
        CHECK(error.reason() == lds::Reason::io);  // its thread was not started
      }
      failed = memory.failed();
    }
    CHECK(fresh.wait(0));
    fresh.start(items, {}, {});
    const lds::PackResult result = fresh.result();
    CHECK(result.failures.empty());
    CHECK(result.hashes == expected.hashes);
    CHECK(result.sums.squares == expected.sums.squares);
  }
}
