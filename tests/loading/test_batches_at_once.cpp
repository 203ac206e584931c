// Tests that Prefetcher fills several batches at the same time, and that nobody can tell from the batches.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/error.h"
#include "failing_malloc.h"
#include "loading/prefetcher.h"

using lds::Batch;
using lds::Prefetcher;
using namespace std::chrono_literals;

namespace {

constexpr int kRows = 60, kSide = 6, kRowBytes = 3 * kSide * kSide;

// A condition that threads wait for.
class Gate {
 public:
  void open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    opened_.notify_all();
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    REQUIRE(opened_.wait_for(lock, 60s, [&] { return open_; }));
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

// Rows in memory, of which each reading calls `before`.
class WatchedRows : public lds::RowSource {
 public:
  explicit WatchedRows(std::function<void(int64_t)> before = [](int64_t) {}) : before_(std::move(before)) {
    for (size_t i = 0; i < data_.size(); ++i) data_[i] = static_cast<uint8_t>(i * 37 + i / 100 * 11);
  }
  int64_t size() const noexcept override { return kRows; }
  lds::Extent row(int64_t index) const override {
    before_(index);
    return {data_.data() + index * kRowBytes, kRowBytes};
  }
  std::string describe(int64_t index) const override { return "row " + std::to_string(index); }
  int64_t will_need(const int64_t*, int64_t) const noexcept override { return 0; }
  void release(int64_t) const noexcept override {}
  bool resident(int64_t) const noexcept override { return true; }

 private:
  std::function<void(int64_t)> before_;
  std::vector<uint8_t> data_ = std::vector<uint8_t>(size_t{kRows} * kRowBytes);
};

std::shared_ptr<const lds::Gather> gather_of(std::shared_ptr<const lds::RowSource> rows, bool skip = false) {
  lds::Picture image{std::move(rows), {}, {}};
  image.read.images.size = {kSide, kSide};
  lds::GatherSpec spec;
  spec.damage.skip = skip;
  lds::AugmentSpec& view = spec.views.front();
  view.crop = lds::CropMode::random_resized;
  view.size = {5, 7};
  view.flip = 0.5;
  return std::make_shared<lds::Gather>(std::vector{image}, spec);
}

std::unique_ptr<Prefetcher> prefetcher_of(std::shared_ptr<const lds::Gather> gather,
                                          std::shared_ptr<lds::ThreadPool> pool, int at_once = 0,
                                          std::shared_ptr<lds::Ring> ring = std::make_shared<lds::Ring>(0, 4)) {
  return std::make_unique<Prefetcher>(std::move(gather), std::vector<std::shared_ptr<const lds::FixedRows>>{},
                                      std::move(ring), std::move(pool), at_once);
}

std::unique_ptr<Prefetcher> prefetcher_of(std::function<void(int64_t)> before, int threads, int at_once = 0) {
  return prefetcher_of(gather_of(std::make_shared<WatchedRows>(std::move(before))),
                       std::make_shared<lds::ThreadPool>(threads), at_once);
}

Batch wait_for_next(Prefetcher& prefetcher) {
  for (;;) {
    if (auto batch = prefetcher.next(1000ms)) return *batch;
  }
}

// The reference: one thread, one sample after the other.
std::vector<uint8_t> expected_bytes(const std::vector<int64_t>& samples, uint64_t epoch) {
  const auto gather = gather_of(std::make_shared<WatchedRows>());
  std::vector<uint8_t> out;
  lds::ThreadPool one(1);
  for (const int64_t sample : samples) {
    std::vector<uint8_t> row(static_cast<size_t>(gather->sample_bytes(0)));
    gather->run({&sample, nullptr, 1, 3, epoch}, {row.data()}, one);
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

bool equals(const Batch& batch, const std::vector<uint8_t>& expected) {
  return std::equal(expected.begin(), expected.end(), batch.memory.get());
}

std::vector<int64_t> samples_from(int64_t first, int64_t n) {
  std::vector<int64_t> samples;
  for (int64_t i = 0; i < n; ++i) samples.push_back((first + i * 7) % kRows);
  return samples;
}

}  // namespace

TEST_CASE("a batch is filled while a sample of the one before it is not done, and waits for it") {
  for (const int threads : {2, 3, 16}) {
    Gate second_done;
    std::atomic<int> of_second{0};
    auto prefetcher = prefetcher_of(
        [&](int64_t row) {
          if (row == 0) second_done.wait();
          if (row >= 10 && ++of_second == 4) second_done.open();
        },
        threads);
    prefetcher->submit({{0, 1, 2}, {}, 3, 0});
    prefetcher->submit({{10, 11, 12, 13}, {}, 3, 1});
    CHECK(equals(wait_for_next(*prefetcher), expected_bytes({0, 1, 2}, 0)));
    CHECK(equals(wait_for_next(*prefetcher), expected_bytes({10, 11, 12, 13}, 1)));
  }
}

TEST_CASE("a later batch is not delivered before an earlier one, and counts as not ready") {
  Gate look;
  std::atomic<int> of_second{0};
  auto prefetcher = prefetcher_of(
      [&](int64_t row) {
        if (row == 0) look.wait();
        if (row >= 10) ++of_second;
      },
      2);
  prefetcher->submit({{0}, {}, 3, 0});
  prefetcher->submit({{10, 11}, {}, 3, 0});
  while (of_second < 2) std::this_thread::yield();
  CHECK(!prefetcher->next(20ms));
  CHECK(!prefetcher->next(0ms));
  CHECK(prefetcher->stats().ready == 0);
  CHECK(prefetcher->stats().pending == 2);
  CHECK(prefetcher->stats().waits == 1);
  look.open();
  CHECK(equals(wait_for_next(*prefetcher), expected_bytes({0}, 0)));
  CHECK(equals(wait_for_next(*prefetcher), expected_bytes({10, 11}, 0)));
}

TEST_CASE("at most `at_once` batches are filled at the same time") {
  for (const int at_once : {1, 2, 3}) {
    // rows of batch b are 10 b to 10 b + 4
    std::mutex mutex;
    std::vector<int> begun(6);
    int most = 0;
    Prefetcher* running = nullptr;
    auto prefetcher = prefetcher_of(
        [&](int64_t row) {
          const std::lock_guard<std::mutex> lock(mutex);
          begun[static_cast<size_t>(row / 10)] = 1;
          int open = 0;
          for (const int one : begun) open += one;
          most = std::max<int>(most, open - static_cast<int>(running->stats().ready));
        },
        4, at_once);
    running = prefetcher.get();
    for (int64_t b = 0; b < 6; ++b) prefetcher->submit({{b * 10, b * 10 + 1, b * 10 + 2, b * 10 + 3}, {}, 3, 0});
    while (prefetcher->stats().ready < 6) std::this_thread::yield();
    // nothing was delivered, so what began and is not ready was being filled, or filled behind one that was
    CHECK(most >= 1);
    if (at_once == 1) CHECK(most == 1);
    for (int64_t b = 0; b < 6; ++b) {
      CHECK(equals(wait_for_next(*prefetcher), expected_bytes({b * 10, b * 10 + 1, b * 10 + 2, b * 10 + 3}, 0)));
    }
  }
}

TEST_CASE("batches do not depend on the threads, nor on how many are filled at once") {
  const auto gather = gather_of(std::make_shared<WatchedRows>());
  for (const int64_t size : {1, 3, 40}) {
    std::vector<std::vector<uint8_t>> expected;
    for (int64_t i = 0; i < 12; ++i) expected.push_back(expected_bytes(samples_from(i, size), 5));
    for (const int threads : {1, 2, 5, 16, 64}) {
      for (const int at_once : {0, 1, 2}) {
        for (const int64_t ahead : {1, 2, 4}) {
          auto prefetcher = prefetcher_of(gather, std::make_shared<lds::ThreadPool>(threads), at_once);
          int64_t submitted = 0;
          bool right = true;
          for (int64_t i = 0; i < 12; ++i) {
            while (submitted < std::min<int64_t>(i + ahead, 12)) {
              prefetcher->submit({samples_from(submitted++, size), {}, 3, 5});
            }
            right = right && equals(wait_for_next(*prefetcher), expected[static_cast<size_t>(i)]);
          }
          CHECK(right);
          CHECK(prefetcher->stats().samples == 12 * size);
        }
      }
    }
  }
}

TEST_CASE("an error is thrown in the place of its batch, while the next one is filled already") {
  for (const int threads : {1, 2, 8}) {
    std::atomic<int> of_third{0};
    auto prefetcher = prefetcher_of(
        [&](int64_t row) {
          if (row >= 40) ++of_third;
          if (row == 20) {
            for (int i = 0; threads > 1 && of_third < 3 && i < 60000; ++i) std::this_thread::sleep_for(1ms);
            throw lds::Error(lds::Reason::corrupt, "broken");
          }
        },
        threads);
    prefetcher->submit({{1, 2}, {}, 3, 0});
    prefetcher->submit({{20, 21}, {}, 3, 0});
    prefetcher->submit({{40, 41, 42}, {}, 3, 0});
    CHECK(equals(wait_for_next(*prefetcher), expected_bytes({1, 2}, 0)));
    CHECK_THROWS_WITH_AS(wait_for_next(*prefetcher), "row 20: broken", lds::Error);
    CHECK(equals(wait_for_next(*prefetcher), expected_bytes({40, 41, 42}, 0)));
    CHECK(prefetcher->stats().batches == 2);
    if (threads > 1) CHECK(of_third == 3);
  }
}

TEST_CASE("a batch that can't be started fails alone, whatever is filled before and after it") {
  for (const int threads : {1, 4}) {
    auto prefetcher = prefetcher_of([](int64_t) {}, threads);
    for (int64_t i = 0; i < 8; ++i) prefetcher->submit({{i % 2 == 0 ? i : i + kRows}, {}, 3, 0});
    for (int64_t i = 0; i < 8; ++i) {
      if (i % 2 == 0) {
        CHECK(equals(wait_for_next(*prefetcher), expected_bytes({i}, 0)));
      } else {
        CHECK_THROWS_AS(wait_for_next(*prefetcher), lds::Error);
      }
    }
    prefetcher->submit({{}, {}, 3, 0});  // and one of no samples is a batch, too
    CHECK(wait_for_next(*prefetcher).samples == 0);
  }
}

TEST_CASE("replaced samples are counted with their batch") {
  const auto rows = std::make_shared<WatchedRows>([](int64_t row) {
    if (row % 5 == 0) throw lds::Error(lds::Reason::corrupt, "broken");
  });
  for (const int threads : {1, 2, 16}) {
    auto prefetcher = prefetcher_of(gather_of(rows, true), std::make_shared<lds::ThreadPool>(threads));
    for (int64_t i = 0; i < 6; ++i) prefetcher->submit({samples_from(i, 10), {}, 3, 0});
    for (int64_t i = 0; i < 6; ++i) {
      const std::vector<int64_t> samples = samples_from(i, 10);
      const auto damaged = std::count_if(samples.begin(), samples.end(), [](int64_t row) { return row % 5 == 0; });
      const Batch batch = wait_for_next(*prefetcher);
      CHECK(batch.replaced == damaged);
      const auto first = std::find_if(samples.begin(), samples.end(), [](int64_t row) { return row % 5 == 0; });
      CHECK(batch.damage == "row " + std::to_string(*first) + ": broken");
    }
    CHECK(prefetcher->stats().replaced == 12);
  }
}

TEST_CASE("close ends while two batches are being filled, after the samples that were begun") {
  for (const int threads : {1, 2, 8}) {
    for (int round = 0; round < 20; ++round) {
      auto ring = std::make_shared<lds::Ring>(0, 4);
      Gate begun;
      std::atomic<int> reads{0};
      const auto gather = gather_of(std::make_shared<WatchedRows>([&](int64_t) {
        if (++reads == 6) begun.open();
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }));
      auto prefetcher = prefetcher_of(gather, std::make_shared<lds::ThreadPool>(threads), 0, ring);
      for (int64_t i = 0; i < 4; ++i) prefetcher->submit({samples_from(i, 50), {}, 3, 0});
      if (round % 2 == 0) begun.wait();
      prefetcher->close();
      const int after = reads;
      CHECK(after < 200);  // the rest is not made
      CHECK(ring->stats().in_use == 0);
      CHECK_THROWS_AS(prefetcher->next(1ms), lds::Error);
      prefetcher.reset();
      CHECK(reads == after);
    }
  }
}

TEST_CASE("the memory of batches that are filled at once is that of those submitted") {
  auto ring = std::make_shared<lds::Ring>(0, 4);
  const auto gather = gather_of(std::make_shared<WatchedRows>());
  auto prefetcher = prefetcher_of(gather, std::make_shared<lds::ThreadPool>(8), 0, ring);
  for (int64_t i = 0; i < 3; ++i) prefetcher->submit({samples_from(i, 16), {}, 3, 0});
  for (int64_t i = 3; i < 100; ++i) {
    const Batch held = wait_for_next(*prefetcher);
    CHECK(ring->stats().in_use <= 3);  // this one, and two
    prefetcher->submit({samples_from(i, 16), {}, 3, 0});
  }
  CHECK(ring->stats().allocations <= 4);
}

TEST_CASE("prefetchers of several loaders share a pool of any size") {
  for (const int threads : {1, 2, 64}) {
    auto pool = std::make_shared<lds::ThreadPool>(threads);
    std::vector<std::thread> users;
    std::atomic<int> right{0};
    for (int64_t user = 0; user < 3; ++user) {
      users.emplace_back([&, user] {
        auto prefetcher = prefetcher_of(gather_of(std::make_shared<WatchedRows>()), pool);
        for (int64_t i = 0; i < 30; ++i) prefetcher->submit({samples_from(user * 30 + i, 9), {}, 3, 0});
        for (int64_t i = 0; i < (user == 2 ? 10 : 30); ++i) {  // the last one is closed in the middle
          right += equals(wait_for_next(*prefetcher), expected_bytes(samples_from(user * 30 + i, 9), 0)) ? 1 : 0;
        }
      });
    }
    for (std::thread& user : users) user.join();
    CHECK(right == 70);
  }
}

TEST_CASE("waits are counted, and the longest is known") {
  auto prefetcher = prefetcher_of([](int64_t) { std::this_thread::sleep_for(5ms); }, 1);
  prefetcher->submit({{1}, {}, 3, 0});
  prefetcher->submit({{2}, {}, 3, 0});
  while (prefetcher->stats().ready < 2) std::this_thread::yield();
  wait_for_next(*prefetcher);
  CHECK(prefetcher->stats().waits == 0);
  CHECK(prefetcher->stats().longest_wait_seconds == 0);
  wait_for_next(*prefetcher);
  prefetcher->submit({{3, 4, 5, 6}, {}, 3, 0});
  while (!prefetcher->next(1ms)) {
  }
  const Prefetcher::Stats stats = prefetcher->stats();
  CHECK(stats.waits == 1);
  CHECK(stats.longest_wait_seconds > 0);
  CHECK(stats.longest_wait_seconds <= stats.wait_seconds);
  CHECK(stats.fill_seconds > 0);
}

TEST_CASE("memory that runs out for one of several batches fails that one alone") {
  int failures = 0;
  for (bool failed = true; failed; ++failures) {
    std::vector<std::vector<uint8_t>> expected;
    for (int64_t i = 0; i < 3; ++i) expected.push_back(expected_bytes(samples_from(i, 12), 0));
    auto prefetcher = prefetcher_of([](int64_t) {}, 3);
    std::vector<size_t> submitted;
    submitted.reserve(3);
    int wrong = 0, lacking = 0, found = 0;
    {
      const FailingMalloc memory(failures, FailingMalloc::Threads::all);
      for (int64_t i = 0; i < 3; ++i) {
        try {
          prefetcher->submit({samples_from(i, 12), {}, 3, 0});
          submitted.push_back(static_cast<size_t>(i));
        } catch (const std::exception&) {
          ++lacking;
        }
      }
      for (const size_t i : submitted) {
        try {
          ++found;
          wrong += equals(wait_for_next(*prefetcher), expected[i]) ? 0 : 1;
        } catch (const std::bad_alloc&) {
          ++lacking;
        }
      }
      failed = memory.failed();
    }
    CHECK(wrong == 0);
    INFO("failure " << failures << " lacking " << lacking << " submitted " << found);
    CHECK(lacking <= (failed ? 1 : 0));
    CHECK(prefetcher->stats().pending == 0);
  }
  CHECK(failures > 20);
}
