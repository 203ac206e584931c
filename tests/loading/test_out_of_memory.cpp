// Tests that a failed allocation only affects its batch, on whichever thread: the next batch is correct.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/file.h"
#include "failing_malloc.h"
#include "loading/prefetcher.h"

using namespace std::chrono_literals;

namespace {

constexpr int kRows = 40, kSide = 12, kRowBytes = 3 * kSide * kSide;

// A store of noise, loaded with random resized crops.
struct Store {
  std::string path = "/tmp/lds_out_of_memory_XXXXXX";
  Store() {
    const int descriptor = mkstemp(path.data());
    REQUIRE(descriptor >= 0);
    std::vector<uint8_t> rows(size_t{kRows} * kRowBytes);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<uint8_t>(i * 37 + i / 100 * 11);
    lds::write_exactly(descriptor, rows.data(), static_cast<int64_t>(rows.size()), 0);
    close(descriptor);
  }
  ~Store() { unlink(path.c_str()); }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  std::shared_ptr<const lds::FixedRows> rows() const {
    return std::make_shared<lds::FixedRows>(std::vector<lds::ShardFile>{{path, 0, kRows}}, kRowBytes);
  }
  std::shared_ptr<lds::Gather> gather() const {
    lds::Picture image{rows(), {}, {}};
    image.read.images.size = {kSide, kSide};
    lds::GatherSpec spec;
    lds::AugmentSpec& view = spec.views.front();
    view.crop = lds::CropMode::random_resized;
    view.size = {7, 9};
    view.flip = 0.5;
    return std::make_shared<lds::Gather>(std::vector{image}, spec);
  }
};

const std::vector<int64_t> kSamples = {3, 1, 4, 1, 5, 9, 2, 6, 39, 0, 17, 21};

std::vector<uint8_t> bytes_of(const lds::Batch& batch, int64_t bytes) {
  return {batch.memory.get(), batch.memory.get() + bytes};
}

}  // namespace

TEST_CASE("after an allocation that failed, a gather gives the right batch") {
  const Store store;
  lds::ThreadPool one(1);
  const auto n = static_cast<int64_t>(kSamples.size());
  std::vector<uint8_t> expected(static_cast<size_t>(store.gather()->sample_bytes(0) * n)), found(expected.size());
  const lds::SampleList samples{kSamples.data(), nullptr, n, 1, 2};
  store.gather()->run(samples, {expected.data()}, one);
  int failures = 0;
  for (bool failed = true; failed; ++failures) {
    const auto gather = store.gather();
    {
      const FailingMalloc memory(failures);
      gather->read_ahead(samples);
      try {
        gather->run(samples, {found.data()}, one);
        CHECK(found == expected);
      } catch (const std::bad_alloc&) {
        CHECK(memory.failed());
      }
      failed = memory.failed();
    }
    gather->run(samples, {found.data()}, one);
    CHECK(found == expected);
  }
  CHECK(failures > 10);
}

TEST_CASE("a prefetcher that lacks memory on any of its threads goes on") {
  const Store store;
  const auto make = [&] {
    return std::make_unique<lds::Prefetcher>(store.gather(),
                                             std::vector<std::shared_ptr<const lds::FixedRows>>{store.rows()},
                                             std::make_shared<lds::Ring>(0, 2), std::make_shared<lds::ThreadPool>(2));
  };
  const auto next = [](lds::Prefetcher& prefetcher) {
    for (;;) {
      if (auto batch = prefetcher.next(1000ms)) return *batch;
    }
  };
  const auto plain = make();
  plain->submit({kSamples, {}, 1, 2});
  const int64_t bytes = plain->batch_bytes(static_cast<int64_t>(kSamples.size()));
  const std::vector<uint8_t> expected = bytes_of(next(*plain), bytes);
  int failures = 0;
  for (bool failed = true; failed; ++failures) {
    const auto prefetcher = make();
    {
      const FailingMalloc memory(failures, FailingMalloc::Threads::all);
      for (int batch = 0; batch < 3; ++batch) {
        try {
          prefetcher->submit({kSamples, {}, 1, 2});
          const lds::Batch filled = next(*prefetcher);
          const bool right = std::equal(expected.begin(), expected.end(), filled.memory.get());
          CHECK(right);
        } catch (const std::bad_alloc&) {
          CHECK(memory.failed());
        } catch (const lds::Error& error) {
          CHECK(error.reason() == lds::Reason::io);  // its thread
        }
      }
      failed = memory.failed();
    }
    CHECK(prefetcher->stats().pending == 0);
    prefetcher->submit({kSamples, {}, 1, 2});
    CHECK(bytes_of(next(*prefetcher), bytes) == expected);
  }
  CHECK(failures > 20);
}
