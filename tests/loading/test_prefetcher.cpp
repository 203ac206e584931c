// Tests Prefetcher: the order of batches, errors, closing, and shared rings.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "common/error.h"
#include "loading/prefetcher.h"
#include "no_threads.h"

using lds::Batch;
using lds::BatchRequest;
using lds::Prefetcher;
using namespace std::chrono_literals;

namespace {

constexpr int kRows = 50, kSide = 4, kRowBytes = 3 * kSide * kSide;

// A file whose row i contains bytes i, and a field whose row i is the int64 i.
struct Store {
  std::string images = file(kRowBytes), labels = file(8);

  static std::string file(int bytes) {
    std::string path = "/tmp/lds_prefetch_XXXXXX";
    const int descriptor = mkstemp(path.data());
    REQUIRE(descriptor >= 0);
    FILE* out = fdopen(descriptor, "wb");
    for (int64_t row = 0; row < kRows; ++row) {
      std::vector<uint8_t> data(static_cast<size_t>(bytes), static_cast<uint8_t>(row));
      if (bytes == 8) std::memcpy(data.data(), &row, 8);
      fwrite(data.data(), 1, data.size(), out);
    }
    fclose(out);
    return path;
  }
  ~Store() {
    unlink(images.c_str());
    unlink(labels.c_str());
  }
  std::unique_ptr<Prefetcher> prefetcher(int threads, std::shared_ptr<lds::Ring> ring = nullptr) const {
    auto rows = std::make_shared<lds::FixedRows>(std::vector<lds::ShardFile>{{images, 0, kRows}}, kRowBytes);
    auto field = std::make_shared<lds::FixedRows>(std::vector<lds::ShardFile>{{labels, 0, kRows}}, 8);
    lds::Picture image{rows, {}, {}};
    image.read.images.size = {kSide, kSide};
    image.output.type = lds::PixelType::uint8;
    if (!ring) ring = std::make_shared<lds::Ring>(0, 4);
    return std::make_unique<Prefetcher>(std::make_shared<lds::Gather>(std::vector{image}, lds::GatherSpec{}),
                                        std::vector<std::shared_ptr<const lds::FixedRows>>{field}, ring,
                                        std::make_shared<lds::ThreadPool>(threads));
  }
};

void check(const Batch& batch, const std::vector<int64_t>& samples) {
  REQUIRE(batch.samples == static_cast<int64_t>(samples.size()));
  for (size_t i = 0; i < samples.size(); ++i) {
    CHECK(batch.memory.get()[i * kRowBytes] == samples[i]);
    CHECK(batch.memory.get()[(i + 1) * kRowBytes - 1] == samples[i]);
    int64_t label = -1;
    std::memcpy(&label, batch.memory.get() + batch.offsets[1] + static_cast<int64_t>(i) * 8, 8);
    CHECK(label == samples[i]);
  }
}

Batch wait_for_next(Prefetcher& prefetcher) {
  for (;;) {
    if (auto batch = prefetcher.next(1000ms)) return *batch;
  }
}

}  // namespace

TEST_CASE("batches arrive in order, and do not change while they are held") {
  const Store store;
  for (const int threads : {1, 3}) {
    auto prefetcher = store.prefetcher(threads);
    std::vector<Batch> held;
    std::vector<std::vector<int64_t>> requested;
    for (int64_t i = 0; i < 40; ++i) {
      requested.push_back({i % kRows, (i * 7) % kRows, 49});
      prefetcher->submit({requested.back(), {}, 0, 0});
    }
    for (int i = 0; i < 40; ++i) held.push_back(wait_for_next(*prefetcher));
    for (size_t i = 0; i < 40; ++i) check(held[i], requested[i]);
    CHECK(prefetcher->stats().batches == 40);
    CHECK(prefetcher->stats().samples == 120);
  }
}

TEST_CASE("an error is thrown once, in place of its batch") {
  const Store store;
  auto prefetcher = store.prefetcher(2);
  prefetcher->submit({{1}, {}, 0, 0});
  prefetcher->submit({{kRows}, {}, 0, 0});
  prefetcher->submit({{2}, {}, 0, 0});
  check(wait_for_next(*prefetcher), {1});
  CHECK_THROWS_AS(wait_for_next(*prefetcher), lds::Error);
  check(wait_for_next(*prefetcher), {2});
  CHECK_THROWS_WITH_AS(prefetcher->next(1ms), "no batch is submitted", lds::Error);
  CHECK_THROWS_AS(prefetcher->submit({{1, 2}, {1}, 0, 0}), lds::Error);
}

TEST_CASE("closing stops the work at once, and held batches remain valid") {
  const Store store;
  auto ring = std::make_shared<lds::Ring>(0, 2);
  for (int round = 0; round < 50; ++round) {
    auto prefetcher = store.prefetcher(2, ring);
    for (int64_t i = 0; i < 20; ++i) prefetcher->submit({{i, i + 1}, {}, 0, 0});
    const Batch batch = wait_for_next(*prefetcher);
    if (round % 2 == 0) prefetcher->close();
    if (round % 2 == 0) CHECK_THROWS_AS(prefetcher->next(1ms), lds::Error);
    prefetcher.reset();
    check(batch, {0, 1});
  }
  CHECK(ring->stats().in_use == 0);
}

TEST_CASE("close wakes a caller that waits in next") {
  const Store store;
  lds::Ring::Allocate slow = [](int64_t bytes) {
    std::this_thread::sleep_for(50ms);
    return lds::page_memory(bytes);
  };
  auto prefetcher = store.prefetcher(1, std::make_shared<lds::Ring>(0, 2, slow));
  prefetcher->submit({{1}, {}, 0, 0});
  prefetcher->submit({{2}, {}, 0, 0});
  std::thread closer([&] {
    std::this_thread::sleep_for(10ms);
    prefetcher->close();
  });
  CHECK_THROWS_AS(
      {
        for (int i = 0; i < 3; ++i) wait_for_next(*prefetcher);
      },
      lds::Error);
  closer.join();
}

TEST_CASE("several threads may call close concurrently while batches are filled") {
  const Store store;
  for (int round = 0; round < 20; ++round) {
    auto prefetcher = store.prefetcher(2);
    for (int64_t i = 0; i < 20; ++i) prefetcher->submit({{i, i + 1}, {}, 0, 0});
    std::thread other([&] { prefetcher->close(); });
    prefetcher->close();
    other.join();
    CHECK(prefetcher->stats().pending == 0);
  }
}

#if !defined(__SANITIZE_THREAD__)  // TSan does not support a forked child of a process that had threads
TEST_CASE("submit throws if no thread can be started") {
  const Store store;
  CHECK(without_threads([&] {
    auto prefetcher = store.prefetcher(1);
    try {
      prefetcher->submit({{1}, {}, 0, 0});
    } catch (const lds::Error& error) {
      return error.reason() == lds::Reason::io && prefetcher->stats().pending == 0;
    }
    return false;
  }));
}
#endif

TEST_CASE("several iterators share a ring and a pool") {
  const Store store;
  auto ring = std::make_shared<lds::Ring>(0, 4);
  auto one = store.prefetcher(2, ring);
  auto two = store.prefetcher(2, ring);
  std::vector<std::thread> threads;
  for (Prefetcher* prefetcher : {one.get(), two.get()}) {
    threads.emplace_back([prefetcher] {
      for (int64_t i = 0; i < 100; ++i) {
        prefetcher->submit({{i % kRows}, {}, 0, 0});
        check(wait_for_next(*prefetcher), {i % kRows});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(ring->stats().in_use == 0);
}
