// Fills batches ahead of the caller, in a background thread that does not need the GIL.
#pragma once

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
class Prefetcher {
 public:
  // Row i of each field belongs to sample i.
  Prefetcher(std::shared_ptr<const Gather> gather, std::vector<std::shared_ptr<const FixedRows>> fields,
             std::shared_ptr<Ring> ring, std::shared_ptr<ThreadPool> pool);
  ~Prefetcher() { close(); }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The size of a batch of this many samples.
  int64_t batch_bytes(int64_t samples) const;

  // Batches are filled in the order in which they are submitted.
  void submit(BatchRequest request);

  // Returns the oldest pending batch, or nothing if it is not ready before the timeout. If filling it failed, the error
  // is thrown here, once; later batches are not affected. Error(Reason::value) if no batch is pending, or after
  // close().
  std::optional<Batch> next(std::chrono::milliseconds timeout);

  // Drops all pending batches and joins the thread. Batches that the caller holds remain valid. Thread-safe.
  void close() noexcept;

  struct Stats {
    int64_t batches = 0, samples = 0;
    int64_t replaced = 0;     // samples that stand in for a damaged one
    std::string damage;       // of the first of these
    int64_t read_ahead = 0;   // rows that were requested from the kernel because they were not in the page cache
    double fill_seconds = 0;  // time that the thread spent filling batches
    double wait_seconds = 0;  // time that next() waited
    int64_t pending = 0, ready = 0;
  };
  Stats stats() const;

 private:
  struct Result {
    BatchRequest request;
    Batch batch;
    std::exception_ptr error;
  };
  std::vector<int64_t> layout(int64_t samples) const;
  Batch fill(const BatchRequest& request) const;
  int64_t read_ahead(const BatchRequest& request) const noexcept;
  void serve();

  const std::shared_ptr<const Gather> gather_;
  const std::vector<std::shared_ptr<const FixedRows>> fields_;
  std::shared_ptr<Ring> ring_;
  std::shared_ptr<ThreadPool> pool_;

  mutable std::mutex mutex_;
  std::condition_variable submitted_, filled_;
  // Submitted but not delivered, oldest first. The batches of the first ready_ entries are filled, and the rows of the
  // first requested_ entries were requested from the kernel. Shared with the thread, because close() clears the queue
  // while the thread may be filling a batch.
  std::deque<std::shared_ptr<Result>> pending_;
  size_t ready_ = 0, requested_ = 0;
  bool closed_ = false;
  Stats stats_;

  std::mutex closing_;  // held while the thread is joined, so that a concurrent close() waits, too
  std::thread thread_;  // started by the first submit()
};

}  // namespace lds
