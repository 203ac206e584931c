#include "packing/packer.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "common/error.h"
#include "common/thread_pool.h"
#include "packing/pack_worker.h"
#include "packing/row_file.h"

namespace lds {
namespace {

constexpr int64_t kWriteBytes = int64_t{256} * 1024;  // small rows are written together
constexpr int64_t kWriteBack = int64_t{8} * 1024 * 1024;

}  // namespace

struct Packer::State {
  PackSpec spec;
  ThreadPool pool;
  std::vector<std::unique_ptr<PackWorker>> workers;
  int64_t sample_bytes;

  // the job
  std::vector<PackItem> items;
  std::vector<int64_t> samples;
  PackTarget target;
  PackResult result;
  std::thread driver;
  std::exception_ptr error;
  std::mutex mutex;
  std::condition_variable finished;
  bool running = false;
  std::atomic<int64_t> done{0};
  std::atomic<bool> cancelled{false};

  State(const PackSpec& given, int threads)
      : spec(given), pool(threads), workers(static_cast<size_t>(threads)), sample_bytes(PackWorker(given).bytes()) {}

  void join() {
    if (driver.joinable()) driver.join();
  }

  void work() {
    const auto n = static_cast<int64_t>(items.size());
    const int64_t share = n / (int64_t{pool.size()} * 8);  // several turns a thread, however few images there are
    const int64_t grain = std::clamp<int64_t>(std::min(kWriteBytes / sample_bytes, share), 1, 64);
    pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int number) {
      if (cancelled.load(std::memory_order_relaxed)) return;
      std::unique_ptr<PackWorker>& worker = workers[static_cast<size_t>(number)];
      if (!worker) worker = std::make_unique<PackWorker>(spec, &cancelled);
      pack(begin, end, *worker);
      done.fetch_add(end - begin, std::memory_order_relaxed);
    });
    for (const auto& worker : workers) {
      if (worker) worker->give(result);
    }
    std::sort(result.failures.begin(), result.failures.end(),
              [](const PackFailure& a, const PackFailure& b) { return a.item < b.item; });
  }

  void pack(int64_t begin, int64_t end, PackWorker& worker) {
    uint8_t* rows = worker.room(end - begin);
    for (int64_t i = begin; i < end; ++i) {
      if (cancelled.load(std::memory_order_relaxed)) return;
      const auto at = static_cast<size_t>(i);
      const PackedRow row =
          worker.pack(items[at], i, samples.empty() ? i : samples[at], rows + (i - begin) * sample_bytes);
      result.widths[at] = row.width;
      result.heights[at] = row.height;
      result.hashes[at] = row.hash;
    }
    if (target.descriptor >= 0) write(begin, end, rows, worker);
  }

  // Failed items leave gaps that the caller closes.
  void write(int64_t begin, int64_t end, const uint8_t* rows, PackWorker& worker) {
    const PhaseTimer timer(worker.clock().write);
    if (!target.rows.empty()) {
      for (int64_t i = begin; i < end; ++i) {
        write_exactly(target.descriptor, rows + (i - begin) * sample_bytes, sample_bytes,
                      target.offset + target.rows[static_cast<size_t>(i)] * sample_bytes);
      }
      return;
    }
    const int64_t from = target.offset + begin * sample_bytes;
    const int64_t to = target.offset + end * sample_bytes;
    write_exactly(target.descriptor, rows, to - from, from);
    if (from / kWriteBack != to / kWriteBack && from >= kWriteBack) {
      begin_write_back(target.descriptor, (from / kWriteBack - 1) * kWriteBack, kWriteBack);
    }
  }

  void run() noexcept {
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard<std::mutex> lock(mutex);
    running = false;
    finished.notify_all();
  }
};

Packer::Packer(const PackSpec& spec, int threads) : state_(std::make_unique<State>(spec, threads)) {}

Packer::~Packer() {
  cancel();
  state_->join();
}

int64_t Packer::sample_bytes() const noexcept { return state_->sample_bytes; }

void Packer::start(std::vector<PackItem> items, std::vector<int64_t> samples, PackTarget target) {
  State& s = *state_;
  s.join();
  if ((!samples.empty() && samples.size() != items.size()) ||
      (!target.rows.empty() && target.rows.size() != items.size())) {
    throw Error(Reason::value, "samples and rows must have an entry for each item, or none");
  }
  for (const auto& worker : s.workers) {
    if (worker) worker->give(s.result);  // what a cancelled job left
  }
  s.result = {};
  s.result.widths.resize(items.size());
  s.result.heights.resize(items.size());
  s.result.hashes.resize(items.size());
  s.items = std::move(items);
  s.samples = std::move(samples);
  s.target = std::move(target);
  s.error = nullptr;
  s.done = 0;
  s.cancelled = false;
  s.running = true;
  s.driver = std::thread([&s] { s.run(); });
}

bool Packer::wait(double seconds) {
  State& s = *state_;
  std::unique_lock<std::mutex> lock(s.mutex);
  return s.finished.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return !s.running; });
}

int64_t Packer::done() const noexcept { return state_->done.load(std::memory_order_relaxed); }

void Packer::cancel() noexcept { state_->cancelled.store(true, std::memory_order_relaxed); }

PackResult Packer::result() {
  State& s = *state_;
  s.join();
  s.items.clear();
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
  if (s.cancelled) throw Error(Reason::cancelled, "the job was cancelled");
  return std::move(s.result);
}

PackClock Packer::clock() const {
  PackClock sum;
  for (const auto& worker : state_->workers) {
    if (!worker) continue;
    const PackClock& one = worker->clock();
    sum.read += one.read;
    sum.decode += one.decode;
    sum.write += one.write;
    sum.bytes_read += one.bytes_read;
  }
  return sum;
}

}  // namespace lds
