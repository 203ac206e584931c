#include "packing/packer.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/error.h"
#include "common/file.h"
#include "common/thread.h"

namespace lds {
namespace {

constexpr int64_t kWriteBytes = int64_t{256} * 1024;  // rows smaller than this are written together
constexpr int64_t kWriteBack = int64_t{8} * 1024 * 1024;
constexpr int64_t kMaxFiles = 8;  // that a thread takes at once

void resize(JpegResult& result, size_t items) {
  result.kept.resize(items);
  result.bytes.resize(items);
  result.heights.resize(items);
  result.widths.resize(items);
  result.orientations.resize(items, 1);
  result.psnr.resize(items, kNotMeasured);
  result.source_bytes.resize(items);
}

}  // namespace

Packer::Packer(const PackSpec& spec, int threads)
    : spec_(spec), sample_bytes_(PackWorker(spec_).bytes()), pool_(threads), workers_(static_cast<size_t>(threads)) {}

Packer::~Packer() {
  cancel();
  join();
}

void Packer::join() {
  if (driver_.joinable()) driver_.join();
}

void Packer::check(size_t items, size_t samples, const PackTarget& target) const {
  if ((samples != 0 && samples != items) || (!target.rows.empty() && target.rows.size() != items)) {
    throw Error(Reason::value, "samples and rows must be empty or have " + std::to_string(items) + " entries, found " +
                                   std::to_string(samples) + " samples and " + std::to_string(target.rows.size()) +
                                   " rows");
  }
  if (spec_.files() && (target.memory != nullptr || !target.rows.empty())) {
    throw Error(Reason::value, "JPEG rows are written to a file, in order");
  }
  if (target.memory == nullptr) return;
  const int64_t rows = target.memory_rows;
  const bool fits = target.rows.empty() ? static_cast<int64_t>(items) <= rows
                                        : std::all_of(target.rows.begin(), target.rows.end(),
                                                      [&](int64_t row) { return row >= 0 && row < rows; });
  if (!fits) {
    throw Error(Reason::value,
                std::to_string(items) + " items do not fit into the " + std::to_string(rows) + " rows of out");
  }
}

int64_t Packer::row_of(int64_t item) const noexcept {
  return target_.rows.empty() ? item : target_.rows[static_cast<size_t>(item)];
}

void Packer::start(std::vector<PackItem> items, std::vector<int64_t> samples, PackTarget target) {
  join();
  check(items.size(), samples.size(), target);
  for (const auto& worker : workers_) {
    if (worker) worker->flush_into(result_);  // discards what a cancelled job left
  }
  result_ = {};
  result_.widths.resize(items.size());
  result_.heights.resize(items.size());
  result_.hashes.resize(items.size());
  appender_.reset();
  if (spec_.files()) {
    resize(result_.jpeg, items.size());
    appender_ = std::make_unique<OrderedAppender>(target.descriptor, target.offset);
  }
  items_ = std::move(items);
  samples_ = std::move(samples);
  target_ = std::move(target);
  error_ = nullptr;
  done_ = 0;
  cancelled_ = false;
  const std::lock_guard<std::mutex> lock(mutex_);  // so that run() can't end before running_ is set
  driver_ = start_thread([this] { run(); });
  running_ = true;
}

void Packer::run() noexcept {
  try {
    pack_all();
  } catch (...) {
    error_ = std::current_exception();
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  running_ = false;
  finished_.notify_all();
}

void Packer::pack_all() {
  const auto n = static_cast<int64_t>(items_.size());
  pool_.parallel_for(n, grain(), [&](int64_t begin, int64_t end, int thread) {
    try {
      pack_chunk(begin, end, workers_[static_cast<size_t>(thread)]);
    } catch (...) {
      // other threads may wait for the rows of this one, which don't come
      if (appender_) appender_->stop();
      throw;
    }
    done_.fetch_add(end - begin, std::memory_order_relaxed);
  });
  for (const auto& worker : workers_) {
    if (worker) worker->flush_into(result_);
  }
  std::sort(result_.failures.begin(), result_.failures.end(),
            [](const PackFailure& a, const PackFailure& b) { return a.item < b.item; });
}

int64_t Packer::grain() const noexcept {
  const auto n = static_cast<int64_t>(items_.size());
  const int64_t max_grain = n / (int64_t{pool_.size()} * 8);  // at least 8 chunks per thread, to balance the load
  const int64_t wanted = spec_.files() ? kMaxFiles : kWriteBytes / sample_bytes_;
  return std::clamp<int64_t>(std::min(wanted, max_grain), 1, 64);
}

void Packer::pack_chunk(int64_t begin, int64_t end, std::unique_ptr<PackWorker>& worker) {
  if (cancelled_.load(std::memory_order_relaxed)) {
    if (appender_) appender_->stop();
    return;
  }
  if (!worker) worker = std::make_unique<PackWorker>(spec_, &cancelled_);
  if (appender_) {
    pack_files(begin, end, *worker);
  } else {
    pack(begin, end, *worker);
  }
}

void Packer::pack_files(int64_t begin, int64_t end, PackWorker& worker) {
  std::vector<uint8_t>& files = worker.files();
  files.clear();
  for (int64_t i = begin, first = begin; i < end; ++i) {
    if (cancelled_.load(std::memory_order_relaxed)) return appender_->stop();
    const auto at = static_cast<size_t>(i);
    worker.pack_file(items_[at], i, samples_.empty() ? i : samples_[at], files, result_);
    if (static_cast<int64_t>(files.size()) < kWriteBytes && i + 1 < end) continue;
    const PhaseTimer timer(worker.clock().write);
    appender_->put(first, i + 1, files);
    first = i + 1;
  }
}

void Packer::pack(int64_t begin, int64_t end, PackWorker& worker) {
  uint8_t* buffer = target_.memory == nullptr ? worker.buffer(end - begin) : nullptr;
  for (int64_t i = begin; i < end; ++i) {
    if (cancelled_.load(std::memory_order_relaxed)) return;
    const auto at = static_cast<size_t>(i);
    uint8_t* out = buffer ? buffer + (i - begin) * sample_bytes_ : target_.memory + row_of(i) * sample_bytes_;
    const PackedRow row = worker.pack(items_[at], i, samples_.empty() ? i : samples_[at], out);
    result_.widths[at] = row.width;
    result_.heights[at] = row.height;
    result_.hashes[at] = row.hash;
  }
  if (target_.descriptor >= 0 && buffer) write(begin, end, buffer, worker);
}

// Also writes the rows of failed items, whose contents are unspecified: the caller removes them with close_gaps().
void Packer::write(int64_t begin, int64_t end, const uint8_t* rows, PackWorker& worker) const {
  const PhaseTimer timer(worker.clock().write);
  if (!target_.rows.empty()) {
    for (int64_t i = begin; i < end; ++i) {
      write_exactly(target_.descriptor, rows + (i - begin) * sample_bytes_, sample_bytes_,
                    target_.offset + row_of(i) * sample_bytes_);
    }
    return;
  }
  const int64_t from = target_.offset + begin * sample_bytes_;
  const int64_t to = target_.offset + end * sample_bytes_;
  write_exactly(target_.descriptor, rows, to - from, from);
  if (from / kWriteBack != to / kWriteBack && from >= kWriteBack) {
    begin_write_back(target_.descriptor, (from / kWriteBack - 1) * kWriteBack, kWriteBack);
  }
}

bool Packer::wait(double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  return finished_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return !running_; });
}

PackResult Packer::result() {
  join();
  items_.clear();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  if (cancelled_) throw Error(Reason::cancelled, "the job was cancelled");
  return std::move(result_);
}

PackClock Packer::clock() const {
  PackClock sum;
  for (const auto& worker : workers_) {
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
