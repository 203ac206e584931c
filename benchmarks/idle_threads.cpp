// How long are threads of a loader idle, while it is the bottleneck? Reading a row takes its time asleep, so that any
// number of threads works side by side on a machine of few processors. Prints, for batches filled one at a time and for
// batches filled at once, the share of the threads' time in which they don't work, and the share of the time in which
// fewer than all of them do. Built and run by bench_threads.py --idle.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "loading/prefetcher.h"

using Clock = std::chrono::steady_clock;

namespace {

constexpr int64_t kRows = 4096;
constexpr int kSide = 8, kRowBytes = 3 * kSide * kSide;

// Sums up the time in which fewer than all threads are at work.
class Watch {
 public:
  explicit Watch(int threads) : threads_(threads), last_(Clock::now()) {}
  void enter() { change(1); }
  void leave() { change(-1); }
  double seconds_idle() {  // of all threads together
    change(0);
    return idle_;
  }
  double seconds_not_all() {
    change(0);
    return not_all_;
  }

 private:
  void change(int by) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Clock::time_point now = Clock::now();
    const double passed = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    idle_ += passed * (threads_ - at_work_);
    not_all_ += at_work_ < threads_ ? passed : 0;
    at_work_ += by;
  }

  const int threads_;
  std::mutex mutex_;
  Clock::time_point last_;
  int at_work_ = 0;
  double idle_ = 0, not_all_ = 0;
};

// Rows that take from 0.3 to 1.7 times 2 ms, as random crops of different sizes do.
class SlowRows : public lds::RowSource {
 public:
  explicit SlowRows(Watch& watch) : watch_(watch) {}
  int64_t size() const noexcept override { return kRows; }
  lds::Extent row(int64_t index) const override {
    const auto share = static_cast<int64_t>(static_cast<uint64_t>(index) * 2654435761U % 1000);
    watch_.enter();
    std::this_thread::sleep_for(std::chrono::microseconds(600 + share * 28 / 10));
    watch_.leave();
    return {data_.data(), kRowBytes};
  }
  std::string describe(int64_t index) const override { return std::to_string(index); }
  int64_t will_need(const int64_t*, int64_t) const noexcept override { return 0; }
  bool resident(int64_t) const noexcept override { return true; }

 private:
  Watch& watch_;
  std::vector<uint8_t> data_ = std::vector<uint8_t>(kRowBytes);
};

struct Shares {
  double idle, not_all;
};

Shares measure(int threads, int64_t batch, int at_once, int prefetch) {
  Watch watch(threads);
  lds::Picture image{std::make_shared<SlowRows>(watch), {}, {}};
  image.read.images.size = {kSide, kSide};
  image.output.type = lds::PixelType::uint8;
  lds::Prefetcher prefetcher(std::make_shared<lds::Gather>(std::vector{image}, lds::GatherSpec{}), {},
                             std::make_shared<lds::Ring>(0, prefetch + 2), std::make_shared<lds::ThreadPool>(threads),
                             at_once);
  int64_t submitted = 0;
  const auto next = [&] {
    while (submitted == 0 || prefetcher.stats().pending < prefetch) {
      std::vector<int64_t> samples;
      for (int64_t i = 0; i < batch; ++i) samples.push_back((submitted * batch + i) * 7 % kRows);
      prefetcher.submit({samples, {}, 0, 0});
      ++submitted;
    }
    while (!prefetcher.next(std::chrono::milliseconds(1000))) {
    }
  };
  next();
  next();
  const Clock::time_point start = Clock::now();
  const double idle = watch.seconds_idle(), not_all = watch.seconds_not_all();
  const int64_t batches = std::max<int64_t>(4, 2048 / batch);
  for (int64_t i = 0; i < batches; ++i) next();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return {(watch.seconds_idle() - idle) / seconds / threads, (watch.seconds_not_all() - not_all) / seconds};
}

}  // namespace

int main() {
  std::printf("%22s  %28s  %28s\n", "", "threads' time idle", "time with an idle thread");
  std::printf("%22s  %16s  %10s  %16s  %10s\n", "prefetch=3", "one at a time", "at once", "one at a time", "at once");
  for (const int64_t batch : {16, 64, 256}) {
    for (const int threads : {2, 4, 8, 16}) {
      const Shares one = measure(threads, batch, 1, 3), more = measure(threads, batch, 0, 3);
      std::printf("batch %4d, %2d threads  %15.1f%%  %9.1f%%  %15.1f%%  %9.1f%%\n", static_cast<int>(batch), threads,
                  100 * one.idle, 100 * more.idle, 100 * one.not_all, 100 * more.not_all);
    }
  }
}
