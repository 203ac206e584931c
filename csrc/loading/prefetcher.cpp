#include "loading/prefetcher.h"

#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "common/error.h"

namespace lds {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kAlignment = 64;

double seconds(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }

struct Made {
  Batch batch;
  std::exception_ptr error;
};

}  // namespace

struct Prefetcher::State {
  std::shared_ptr<const Gather> gather;
  std::vector<std::shared_ptr<const Rows>> fields;
  std::shared_ptr<Ring> ring;
  std::shared_ptr<ThreadPool> pool;
  const pid_t owner = getpid();

  std::mutex mutex;
  std::condition_variable wanted_changed, made_changed;
  std::deque<BatchRequest> wanted;
  std::deque<Made> made;
  size_t read_ahead = 0;  // of `wanted`, how many the kernel was asked to read
  int64_t pending = 0;    // submitted and not delivered
  bool closed = false;
  Stats stats;
  std::thread thread;  // last: it uses all of the above

  // Where each part of a batch begins, and the end of the last.
  std::vector<int64_t> layout(int64_t samples) const {
    std::vector<int64_t> offsets = {0};
    const auto add = [&](int64_t row_bytes) {
      offsets.push_back((offsets.back() + samples * row_bytes + kAlignment - 1) / kAlignment * kAlignment);
    };
    add(gather->sample_bytes());
    for (const auto& field : fields) add(field->row_bytes());
    return offsets;
  }

  Batch make(const BatchRequest& request) const {
    Batch batch;
    batch.samples = static_cast<int64_t>(request.samples.size());
    batch.offsets = layout(batch.samples);
    batch.memory = request.memory ? request.memory : ring->take(batch.offsets.back());
    batch.offsets.pop_back();
    const int64_t* samples = request.samples.data();
    const int64_t* keys = request.keys.empty() ? nullptr : request.keys.data();
    gather->run(samples, keys, batch.samples, request.seed, request.epoch, batch.memory.get(), *pool);
    for (size_t i = 0; i < fields.size(); ++i) {
      const int64_t row_bytes = fields[i]->row_bytes();
      uint8_t* out = batch.memory.get() + batch.offsets[i + 1];
      for (int64_t j = 0; j < batch.samples; ++j) {
        std::memcpy(out + j * row_bytes, fields[i]->row(samples[j]), static_cast<size_t>(row_bytes));
      }
    }
    return batch;
  }

  int64_t ask_for(const BatchRequest& request) const {
    const int64_t* keys = request.keys.empty() ? nullptr : request.keys.data();
    const auto n = static_cast<int64_t>(request.samples.size());
    return gather->read_ahead(request.samples.data(), keys, n, request.seed, request.epoch);
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      wanted_changed.wait(lock, [&] { return closed || !wanted.empty(); });
      if (closed) return;
      const Clock::time_point start = Clock::now();
      // first those that were submitted last, so that the disk works on them while this one is made
      while (read_ahead < wanted.size() && !closed) {
        const BatchRequest coming = wanted[read_ahead++];
        lock.unlock();
        const int64_t rows = ask_for(coming);
        lock.lock();
        stats.read_ahead += rows;
      }
      if (closed) return;
      const BatchRequest request = std::move(wanted.front());
      wanted.pop_front();
      --read_ahead;
      lock.unlock();
      Made result;
      try {
        result.batch = make(request);
      } catch (...) {
        result.error = std::current_exception();
      }
      const double spent = seconds(start);
      lock.lock();
      stats.filling += spent;
      made.push_back(std::move(result));
      made_changed.notify_one();
    }
  }
};

Prefetcher::Prefetcher(std::shared_ptr<const Gather> gather, std::vector<std::shared_ptr<const Rows>> fields,
                       std::shared_ptr<Ring> ring, std::shared_ptr<ThreadPool> pool)
    : state_(std::make_unique<State>()) {
  for (const auto& field : fields) {
    if (field->size() != gather->samples()) {
      throw Error(Reason::value, "a field of " + std::to_string(field->size()) + " rows does not fit to " +
                                     std::to_string(gather->samples()) + " samples");
    }
  }
  state_->gather = std::move(gather);
  state_->fields = std::move(fields);
  state_->ring = std::move(ring);
  state_->pool = std::move(pool);
}

Prefetcher::~Prefetcher() {
  if (state_->owner == getpid()) {
    close();
  } else {
    static_cast<void>(state_.release());  // the thread, and whoever held the mutex, stayed in the parent
  }
}

Prefetcher::State& Prefetcher::mine() const {
  if (state_->owner != getpid()) {
    throw Error(Reason::value,
                "an iterator of a Loader can't be used in a forked process: iterate over the loader anew there");
  }
  return *state_;
}

int64_t Prefetcher::batch_bytes(int64_t samples) const { return mine().layout(samples).back(); }

void Prefetcher::submit(BatchRequest request) {
  State& state = mine();
  if (!request.keys.empty() && request.keys.size() != request.samples.size()) {
    throw Error(Reason::value, "expected a key for each of " + std::to_string(request.samples.size()) +
                                   " samples, found " + std::to_string(request.keys.size()));
  }
  {
    const std::lock_guard<std::mutex> lock(state.mutex);
    if (state.closed) throw Error(Reason::value, "the iterator is closed");
    if (!state.thread.joinable()) state.thread = std::thread([&state] { state.serve(); });
    state.wanted.push_back(std::move(request));
    ++state.pending;
  }
  state.wanted_changed.notify_one();
}

std::optional<Batch> Prefetcher::next(std::chrono::milliseconds patience) {
  State& state = mine();
  const Clock::time_point start = Clock::now();
  std::unique_lock<std::mutex> lock(state.mutex);
  if (state.closed || state.pending == 0) {
    throw Error(Reason::value, state.closed ? "the iterator is closed" : "no batch is submitted");
  }
  const bool there = state.made_changed.wait_for(lock, patience, [&] { return state.closed || !state.made.empty(); });
  state.stats.waiting += seconds(start);
  if (!there) return std::nullopt;
  if (state.made.empty()) throw Error(Reason::value, "the iterator was closed while it was waited for");
  Made result = std::move(state.made.front());
  state.made.pop_front();
  --state.pending;
  if (result.error) std::rethrow_exception(result.error);
  ++state.stats.batches;
  state.stats.samples += result.batch.samples;
  return std::move(result.batch);
}

void Prefetcher::close() noexcept {
  if (state_->owner != getpid()) return;
  std::thread thread;
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->closed = true;
    state_->wanted.clear();
    state_->read_ahead = 0;
    thread.swap(state_->thread);
  }
  state_->wanted_changed.notify_all();
  state_->made_changed.notify_all();
  if (thread.joinable()) thread.join();
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->made.clear();
  state_->pending = 0;
  state_->pool.reset();  // its threads end with the last who uses it
  state_->ring.reset();
}

Prefetcher::Stats Prefetcher::stats() const {
  State& state = mine();
  const std::lock_guard<std::mutex> lock(state.mutex);
  Stats stats = state.stats;
  stats.pending = state.pending;
  stats.ready = static_cast<int64_t>(state.made.size());
  return stats;
}

}  // namespace lds
