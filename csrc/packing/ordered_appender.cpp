#include "packing/ordered_appender.h"

#include <utility>

#include "common/file.h"
#include "common/kept_buffer.h"

namespace lds {
namespace {

constexpr int64_t kMaxWaiting = int64_t{64} << 20;
constexpr int64_t kWriteBack = int64_t{8} << 20;

}  // namespace

void OrderedAppender::put(int64_t begin, int64_t end, std::vector<uint8_t>& bytes) {
  std::unique_lock<std::mutex> lock(mutex_);
  // The thread with the next item never waits here, and the others only until it has been here.
  moved_.wait(lock, [&] { return stopped_ || begin == next_ || waiting_bytes_ <= kMaxWaiting; });
  if (stopped_) return bytes.clear();
  waiting_bytes_ += static_cast<int64_t>(bytes.size());
  waiting_.emplace(begin, Piece{end, std::exchange(bytes, {})});
  if (!spare_.empty()) {
    bytes = std::move(spare_.back());
    spare_.pop_back();
  }
  if (!writing_) write_ready(lock);
}

// Writes what follows on the last item, while other threads go on to put.
void OrderedAppender::write_ready(std::unique_lock<std::mutex>& lock) {
  writing_ = true;
  for (auto first = waiting_.find(next_); first != waiting_.end() && !stopped_; first = waiting_.find(next_)) {
    Piece piece = std::move(first->second);
    waiting_.erase(first);
    lock.unlock();
    write(piece.bytes);
    lock.lock();
    waiting_bytes_ -= static_cast<int64_t>(piece.bytes.size());
    next_ = piece.end;
    piece.bytes.clear();
    if (piece.bytes.capacity() <= kKeptBytes / 8) spare_.push_back(std::move(piece.bytes));
    moved_.notify_all();
  }
  writing_ = false;
}

void OrderedAppender::write(const std::vector<uint8_t>& bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  const int64_t from = offset_;
  offset_ += size;
  if (descriptor_ < 0) return;
  write_exactly(descriptor_, bytes.data(), size, from);
  if (from / kWriteBack != offset_ / kWriteBack && from >= kWriteBack) {
    begin_write_back(descriptor_, (from / kWriteBack - 1) * kWriteBack, kWriteBack);
  }
}

void OrderedAppender::stop() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }
  moved_.notify_all();
}

}  // namespace lds
