#include "loading/prefetcher.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "common/thread.h"

namespace lds {
namespace {

constexpr int64_t kAlignment = 64;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

SampleList sample_list(const BatchRequest& request) noexcept {
  return {request.samples.data(), request.keys.empty() ? nullptr : request.keys.data(),
          static_cast<int64_t>(request.samples.size()), request.seed, request.epoch};
}

}  // namespace

struct Prefetcher::Entry final : ThreadPool::Loop {
  explicit Entry(Prefetcher& of) : owner(of) {}

  void run(int64_t begin, int64_t end, int worker) override { writer->write(begin, end, worker); }
  void finished(std::exception_ptr failure) noexcept override { owner.finish(*this, std::move(failure)); }

  Prefetcher& owner;
  BatchRequest request;
  Batch batch;
  std::unique_ptr<Gather::BatchWriter> writer;
  bool offered = false;  // to the pool's threads; false if it failed before
  bool filled = false;   // or failed
  std::exception_ptr error;
};

Prefetcher::Prefetcher(std::shared_ptr<const Gather> gather, std::vector<std::shared_ptr<const FixedRows>> fields,
                       std::shared_ptr<Ring> ring, std::shared_ptr<ThreadPool> pool, int at_once)
    : gather_(std::move(gather)),
      fields_(std::move(fields)),
      at_once_(at_once),
      ring_(std::move(ring)),
      pool_(std::move(pool)) {
  for (const auto& field : fields_) {
    if (field->size() != gather_->samples()) {
      throw Error(Reason::value, "a field of " + std::to_string(field->size()) + " rows does not match " +
                                     std::to_string(gather_->samples()) + " samples");
    }
  }
}

Prefetcher::~Prefetcher() { close(); }

// The offset of each part of a batch, and the end of the last part.
std::vector<int64_t> Prefetcher::layout(int64_t samples) const {
  std::vector<int64_t> offsets = {0};
  offsets.reserve(1 + gather_->parts() + fields_.size());
  const auto add = [&](int64_t row_bytes) {
    offsets.push_back((offsets.back() + samples * row_bytes + kAlignment - 1) / kAlignment * kAlignment);
  };
  for (size_t part = 0; part < gather_->parts(); ++part) add(gather_->sample_bytes(part));
  for (const auto& field : fields_) add(field->row_bytes());
  return offsets;
}

int64_t Prefetcher::batch_bytes(int64_t samples) const { return layout(samples).back(); }

// Makes the batch's memory ready, and offers its samples to the pool's threads.
void Prefetcher::start(Entry& entry) noexcept {
  try {
    const SampleList samples = sample_list(entry.request);
    Batch& batch = entry.batch;
    batch.samples = samples.n;
    batch.offsets = layout(batch.samples);
    batch.memory = entry.request.memory ? std::move(entry.request.memory) : ring_->take(batch.offsets.back());
    batch.offsets.pop_back();
    std::vector<uint8_t*> parts;
    parts.reserve(gather_->parts());
    for (size_t part = 0; part < gather_->parts(); ++part) parts.push_back(batch.memory.get() + batch.offsets[part]);
    entry.writer = std::make_unique<Gather::BatchWriter>(*gather_, samples, std::move(parts));
    pool_->start(entry, samples.n, Gather::grain(samples.n, pool_->size()));
    entry.offered = true;
  } catch (...) {
    entry.error = std::current_exception();
  }
}

void Prefetcher::copy_fields(Entry& entry) const {
  Batch& batch = entry.batch;
  const auto replaced = entry.writer->replaced();
  batch.replaced = static_cast<int64_t>(replaced.size());
  if (!replaced.empty()) batch.damage = replaced.front().damage;
  std::vector<int64_t>& samples = entry.request.samples;
  for (const Replacement& one : replaced) samples[static_cast<size_t>(one.position)] = one.sample;
  for (size_t i = 0; i < fields_.size(); ++i) {
    const int64_t row_bytes = fields_[i]->row_bytes();
    uint8_t* out = batch.memory.get() + batch.offsets[gather_->parts() + i];
    for (int64_t j = 0; j < batch.samples; ++j) {
      fields_[i]->copy(samples[static_cast<size_t>(j)], out + j * row_bytes);
    }
  }
}

// In the thread that wrote the batch's last sample. Once the mutex is free again, the entry and this may be destroyed.
void Prefetcher::finish(Entry& entry, std::exception_ptr error) noexcept {
  if (!error) {
    try {
      copy_fields(entry);
    } catch (...) {
      error = std::current_exception();
    }
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  entry.error = std::move(error);
  entry.filled = true;
  if (--filling_ == 0) stats_.fill_seconds += seconds_since(filling_since_);
  const size_t before = ready_;
  while (ready_ < pending_.size() && pending_[ready_]->filled) ++ready_;
  if (ready_ > before || closed_) filled_.notify_all();
  if (at_once_ > 0) {  // the thread may wait for this to start another
    news_.store(true, std::memory_order_relaxed);
    submitted_.notify_one();
  }
}

// Whether another batch should be started: the oldest; then one behind it, so that threads which find no more samples
// of the oldest go on at once; and further ones if these are too small to occupy all threads for long.
bool Prefetcher::can_start() const noexcept {
  if (started_ == pending_.size() || (at_once_ > 0 && filling_ >= at_once_)) return false;
  if (started_ == left_) return true;
  if (pool_->size() == 1) return false;
  int64_t behind = 0;
  for (size_t i = left_ + 1; i < started_; ++i) behind += pending_[i]->batch.samples;
  return behind < int64_t{2} * pool_->size();
}

// Asks the kernel for the rows of the oldest entry for which that was not done.
void Prefetcher::request_rows(std::unique_lock<std::mutex>& lock) {
  const Entry& entry = *pending_[requested_++];
  lock.unlock();
  const int64_t rows = gather_->read_ahead(sample_list(entry.request));
  lock.lock();
  stats_.read_ahead += rows;
}

void Prefetcher::start_next(std::unique_lock<std::mutex>& lock) {
  if (filling_++ == 0) filling_since_ = Clock::now();
  if (requested_ == started_) request_rows(lock);
  Entry& entry = *pending_[started_++];
  lock.unlock();
  start(entry);
  lock.lock();
}

void Prefetcher::help_oldest(std::unique_lock<std::mutex>& lock) {
  Entry& oldest = *pending_[left_];
  lock.unlock();
  const bool none_left = !oldest.offered || pool_->help(oldest, news_);
  lock.lock();
  if (none_left) leave_oldest(lock);
}

// The entry may be delivered, and destroyed, as soon as it is left.
void Prefetcher::leave_oldest(std::unique_lock<std::mutex>& lock) {
  Entry& oldest = *pending_[left_++];
  lock.unlock();
  if (oldest.offered) {
    pool_->leave(oldest);
  } else {
    finish(oldest, oldest.error);
  }
  lock.lock();
}

// Must not allocate outside of a try block: an exception would terminate the process. Works on what is most urgent:
// that all threads have samples to take; then that the disk reads the rows of later batches meanwhile; then on samples.
void Prefetcher::serve() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    submitted_.wait(lock, [&] { return closed_ || can_start() || requested_ < pending_.size() || left_ < started_; });
    news_.store(false, std::memory_order_relaxed);
    if (closed_) break;
    if (can_start()) {
      start_next(lock);
    } else if (requested_ < pending_.size()) {
      request_rows(lock);
    } else {
      help_oldest(lock);
    }
  }
  while (left_ < started_) leave_oldest(lock);
}

void Prefetcher::submit(BatchRequest request) {
  if (!request.keys.empty() && request.keys.size() != request.samples.size()) {
    throw Error(Reason::value, "expected a key for each of " + std::to_string(request.samples.size()) +
                                   " samples, found " + std::to_string(request.keys.size()));
  }
  auto added = std::make_unique<Entry>(*this);
  added->request = std::move(request);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) throw Error(Reason::value, "the iterator is closed");
    if (!thread_.joinable()) thread_ = start_thread([this] { serve(); });
    pending_.push_back(std::move(added));
    news_.store(true, std::memory_order_relaxed);
  }
  submitted_.notify_one();
}

std::optional<Batch> Prefetcher::next(std::chrono::milliseconds timeout) {
  const Clock::time_point start = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  if (closed_ || pending_.empty()) {
    throw Error(Reason::value, closed_ ? "the iterator is closed" : "no batch is submitted");
  }
  if (!asked_) {
    asked_ = true;
    asked_seconds_ = 0;
    if (ready_ == 0) ++stats_.waits;
  }
  const bool was_ready = ready_ > 0;
  const bool ready = filled_.wait_for(lock, timeout, [&] { return closed_ || ready_ > 0; });
  const double seconds = seconds_since(start);
  stats_.wait_seconds += seconds;
  if (!was_ready) {
    asked_seconds_ += seconds;
    stats_.longest_wait_seconds = std::max(stats_.longest_wait_seconds, asked_seconds_);
  }
  if (!ready) return std::nullopt;
  if (closed_) throw Error(Reason::value, "the iterator was closed while next() waited for a batch");
  const std::unique_ptr<Entry> entry = std::move(pending_.front());
  pending_.pop_front();
  --ready_;
  --left_;
  --started_;
  --requested_;
  asked_ = false;
  if (entry->error) std::rethrow_exception(std::move(entry->error));
  ++stats_.batches;
  stats_.samples += entry->batch.samples;
  if (stats_.replaced == 0) stats_.damage = entry->batch.damage;
  stats_.replaced += entry->batch.replaced;
  return std::move(entry->batch);
}

void Prefetcher::close() noexcept {
  const std::lock_guard<std::mutex> closing(closing_);
  std::thread thread;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    news_.store(true, std::memory_order_relaxed);
    thread.swap(thread_);
  }
  submitted_.notify_all();
  filled_.notify_all();
  if (thread.joinable()) thread.join();
  {
    std::unique_lock<std::mutex> lock(mutex_);
    filled_.wait(lock, [&] { return filling_ == 0; });  // samples that threads of the pool still write
    requested_ = started_ = left_ = ready_ = 0;
    pending_.clear();
  }
  pool_.reset();  // its threads end when no other user of the pool is left
  ring_.reset();
}

Prefetcher::Stats Prefetcher::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  Stats stats = stats_;
  stats.pending = static_cast<int64_t>(pending_.size());
  stats.ready = static_cast<int64_t>(ready_);
  if (filling_ > 0) stats.fill_seconds += seconds_since(filling_since_);
  return stats;
}

}  // namespace lds
