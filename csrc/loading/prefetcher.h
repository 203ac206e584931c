// Fills batches ahead of the caller, in background threads that do not need the GIL.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "loading/gather.h"
#include "loading/ring.h"
#include "store/fixed_rows.h"

namespace lds {

// Describes one batch to be filled.
struct BatchRequest {
  std::vector<int64_t> samples;
  std::vector<int64_t> keys;  // of the random draws, see Gather::run(); empty: `samples`
  uint64_t seed = 0, epoch = 0;
  std::shared_ptr<uint8_t> memory = nullptr;  // batch_bytes() bytes; nullptr: a slot of the ring
};

// A filled batch: the parts of Gather, then each field, all aligned to 64 bytes.
struct Batch {
  std::shared_ptr<uint8_t> memory;
  int64_t samples = 0;
  int64_t replaced = 0;          // how many of them stand in for a damaged one
  std::string damage;            // of the first of these
  std::vector<int64_t> offsets;  // in bytes, of each part and of each field
};

// Owns a thread and a mutex: keep it in a ProcessOwned if the process may fork.
//
// Its thread starts to fill a batch before the one before it is done, so that threads of the pool that find no more
// samples of one batch go on with the next. Each batch that is being filled has its slot of the ring. A batch becomes
// ready when those before it are.
class Prefetcher {
 public:
  // Row i of each field belongs to sample i. At most `at_once` batches are filled at the same time; 0: as many as keep
  // the threads of the pool busy, of those that are submitted.
  Prefetcher(std::shared_ptr<const Gather> gather, std::vector<std::shared_ptr<const FixedRows>> fields,
             std::shared_ptr<Ring> ring, std::shared_ptr<ThreadPool> pool, int at_once = 0);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The size of a batch of this many samples.
  int64_t batch_bytes(int64_t samples) const;

  // Batches are delivered in the order in which they are submitted.
  void submit(BatchRequest request);

  // Returns the oldest pending batch, or nothing if it is not ready before the timeout. If filling it failed, the error
  // is thrown here, once; later batches are not affected. Error(Reason::value) if no batch is pending, or after
  // close().
  std::optional<Batch> next(std::chrono::milliseconds timeout);

  // Drops all pending batches, waits for the samples that are being written, and joins the thread. Batches that the
  // caller holds remain valid. Thread-safe.
  void close() noexcept;

  struct Stats {
    int64_t batches = 0, samples = 0;
    int64_t replaced = 0;     // samples that stand in for a damaged one
    std::string damage;       // of the first of these
    int64_t read_ahead = 0;   // rows that were requested from the kernel because they were not in the page cache
    double fill_seconds = 0;  // time in which at least one batch was being filled
    double wait_seconds = 0;  // time that next() waited, in total
    int64_t waits = 0;        // batches that were not ready when next() was first called for them
    double longest_wait_seconds = 0;  // for one of these
    int64_t pending = 0, ready = 0;
  };
  Stats stats() const;

 private:
  using Clock = std::chrono::steady_clock;

  // A batch from submit() to next(), and the loop that fills it.
  struct Entry;

  std::vector<int64_t> layout(int64_t samples) const;
  void serve();
  bool can_start() const noexcept;
  void request_rows(std::unique_lock<std::mutex>& lock);
  void start_next(std::unique_lock<std::mutex>& lock);
  void help_oldest(std::unique_lock<std::mutex>& lock);
  void leave_oldest(std::unique_lock<std::mutex>& lock);
  void start(Entry& entry) noexcept;
  void finish(Entry& entry, std::exception_ptr error) noexcept;
  void copy_fields(Entry& entry) const;

  const std::shared_ptr<const Gather> gather_;
  const std::vector<std::shared_ptr<const FixedRows>> fields_;
  const int at_once_;
  std::shared_ptr<Ring> ring_;
  std::shared_ptr<ThreadPool> pool_;

  mutable std::mutex mutex_;
  std::condition_variable submitted_, filled_;
  // Submitted but not delivered, oldest first. Of the first entries,
  //   requested_ had their rows requested from the kernel,
  //   started_   were offered to the pool's threads (or failed before),
  //   left_      have no samples left that nobody has taken, so that this thread no longer helps with them,
  //   ready_     are filled; one that is filled before the one in front of it waits for it.
  // Each of these numbers is at most the one above it.
  std::deque<std::unique_ptr<Entry>> pending_;
  size_t requested_ = 0, started_ = 0, left_ = 0, ready_ = 0;
  int filling_ = 0;                  // entries that are started and not filled
  Clock::time_point filling_since_;  // if filling_ > 0
  bool closed_ = false;
  std::atomic<bool> news_{false};  // there may be more to do for the thread than to help
  Stats stats_;
  bool asked_ = false;        // whether next() was called for the oldest entry
  double asked_seconds_ = 0;  // how long these calls waited

  std::mutex closing_;  // held while the thread is joined, so that a concurrent close() waits, too
  std::thread thread_;  // started by the first submit()
};

}  // namespace lds
