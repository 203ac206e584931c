#include "loading/prefetcher.h"

#include <utility>

#include "common/error.h"
#include "common/thread.h"

namespace lds {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kAlignment = 64;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

SampleList sample_list(const BatchRequest& request) noexcept {
  return {request.samples.data(), request.keys.empty() ? nullptr : request.keys.data(),
          static_cast<int64_t>(request.samples.size()), request.seed, request.epoch};
}

}  // namespace

Prefetcher::Prefetcher(std::shared_ptr<const Gather> gather, std::vector<std::shared_ptr<const FixedRows>> fields,
                       std::shared_ptr<Ring> ring, std::shared_ptr<ThreadPool> pool)
    : gather_(std::move(gather)), fields_(std::move(fields)), ring_(std::move(ring)), pool_(std::move(pool)) {
  for (const auto& field : fields_) {
    if (field->size() != gather_->samples()) {
      throw Error(Reason::value, "a field of " + std::to_string(field->size()) + " rows does not match " +
                                     std::to_string(gather_->samples()) + " samples");
    }
  }
}

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

Batch Prefetcher::fill(const BatchRequest& request) const {
  Batch batch;
  batch.samples = static_cast<int64_t>(request.samples.size());
  batch.offsets = layout(batch.samples);
  batch.memory = request.memory ? request.memory : ring_->take(batch.offsets.back());
  batch.offsets.pop_back();
  std::vector<uint8_t*> parts;
  parts.reserve(gather_->parts());
  for (size_t part = 0; part < gather_->parts(); ++part) parts.push_back(batch.memory.get() + batch.offsets[part]);
  const auto replaced = gather_->run(sample_list(request), parts, *pool_);
  std::vector<int64_t> samples = request.samples;
  for (const Replacement& one : replaced) samples[static_cast<size_t>(one.position)] = one.sample;
  batch.replaced = static_cast<int64_t>(replaced.size());
  if (!replaced.empty()) batch.damage = replaced.front().damage;
  for (size_t i = 0; i < fields_.size(); ++i) {
    const int64_t row_bytes = fields_[i]->row_bytes();
    uint8_t* out = batch.memory.get() + batch.offsets[parts.size() + i];
    for (int64_t j = 0; j < batch.samples; ++j) {
      fields_[i]->copy(samples[static_cast<size_t>(j)], out + j * row_bytes);
    }
  }
  return batch;
}

int64_t Prefetcher::read_ahead(const BatchRequest& request) const noexcept {
  return gather_->read_ahead(sample_list(request));
}

// Must not allocate outside of the try block: an exception would terminate the process.
void Prefetcher::serve() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    submitted_.wait(lock, [&] { return closed_ || ready_ < pending_.size(); });
    if (closed_) return;
    const Clock::time_point start = Clock::now();
    // first, so that the disk reads the rows of new requests while the oldest batch is filled
    while (!closed_ && requested_ < pending_.size()) {
      const std::shared_ptr<Result> entry = pending_[requested_++];
      lock.unlock();
      const int64_t rows = read_ahead(entry->request);
      lock.lock();
      stats_.read_ahead += rows;
    }
    if (closed_) return;
    const std::shared_ptr<Result> oldest = pending_[ready_];
    lock.unlock();
    try {
      oldest->batch = fill(oldest->request);
    } catch (...) {
      oldest->error = std::current_exception();
    }
    oldest->request.memory.reset();  // the batch holds it
    const double seconds = seconds_since(start);
    lock.lock();
    if (closed_) return;
    stats_.fill_seconds += seconds;
    ++ready_;
    filled_.notify_one();
  }
}

void Prefetcher::submit(BatchRequest request) {
  if (!request.keys.empty() && request.keys.size() != request.samples.size()) {
    throw Error(Reason::value, "expected a key for each of " + std::to_string(request.samples.size()) +
                                   " samples, found " + std::to_string(request.keys.size()));
  }
  auto added = std::make_shared<Result>();
  added->request = std::move(request);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) throw Error(Reason::value, "the iterator is closed");
    if (!thread_.joinable()) thread_ = start_thread([this] { serve(); });
    pending_.push_back(std::move(added));
  }
  submitted_.notify_one();
}

std::optional<Batch> Prefetcher::next(std::chrono::milliseconds timeout) {
  const Clock::time_point start = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  if (closed_ || pending_.empty()) {
    throw Error(Reason::value, closed_ ? "the iterator is closed" : "no batch is submitted");
  }
  const bool ready = filled_.wait_for(lock, timeout, [&] { return closed_ || ready_ > 0; });
  stats_.wait_seconds += seconds_since(start);
  if (!ready) return std::nullopt;
  if (closed_) throw Error(Reason::value, "the iterator was closed while next() waited for a batch");
  const std::shared_ptr<Result> result = std::move(pending_.front());
  pending_.pop_front();
  --ready_;
  --requested_;
  if (result->error) std::rethrow_exception(result->error);
  ++stats_.batches;
  stats_.samples += result->batch.samples;
  if (stats_.replaced == 0) stats_.damage = result->batch.damage;
  stats_.replaced += result->batch.replaced;
  return std::move(result->batch);
}

void Prefetcher::close() noexcept {
  const std::lock_guard<std::mutex> closing(closing_);
  std::thread thread;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    ready_ = requested_ = 0;
    pending_.clear();
    thread.swap(thread_);
  }
  submitted_.notify_all();
  filled_.notify_all();
  if (thread.joinable()) thread.join();
  pool_.reset();  // its threads end when no other user of the pool is left
  ring_.reset();
}

Prefetcher::Stats Prefetcher::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  Stats stats = stats_;
  stats.pending = static_cast<int64_t>(pending_.size());
  stats.ready = static_cast<int64_t>(ready_);
  return stats;
}

}  // namespace lds
