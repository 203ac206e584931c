// Fills batches ahead of the caller, in a thread of its own and without the GIL.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "loading/gather.h"
#include "loading/ring.h"
#include "store/fixed_rows.h"

namespace lds {

// Describes one batch to be filled.
struct BatchRequest {
  std::vector<int64_t> samples;
  std::vector<int64_t> keys;  // of the random draws; empty: the samples
  uint64_t seed = 0, epoch = 0;
  std::shared_ptr<uint8_t> memory = nullptr;  // batch_bytes(); else a slot of the ring, taken when it is filled
};

// One slot: the images, then each field, each on a 64-byte boundary.
struct Batch {
  std::shared_ptr<uint8_t> memory;
  int64_t samples = 0;
  std::vector<int64_t> offsets;  // in bytes: of the images, and of each field
};

// Has a thread and a mutex: whoever may be forked keeps it in a ProcessOwned.
class Prefetcher {
 public:
  // The fields' rows are numbered by sample.
  Prefetcher(std::shared_ptr<const Gather> gather, std::vector<std::shared_ptr<const FixedRows>> fields,
             std::shared_ptr<Ring> ring, std::shared_ptr<ThreadPool> pool);
  ~Prefetcher() { close(); }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // Bytes of a batch of so many samples.
  int64_t batch_bytes(int64_t samples) const;

  // Batches are filled in the order in which they are submitted.
  void submit(BatchRequest request);

  // The oldest batch that was submitted and not delivered; nothing when it is not ready in time. An error of filling it
  // is thrown here, once; later batches are not affected. Error(Reason::value) when none was submitted, and when
  // closed.
  std::optional<Batch> next(std::chrono::milliseconds timeout);

  // Drops what is not delivered and joins the thread. Batches that the caller holds stay. Any thread may call it.
  void close() noexcept;

  struct Stats {
    int64_t batches = 0, samples = 0;
    int64_t read_ahead = 0;   // rows that were not in memory and that the kernel was asked to read
    double fill_seconds = 0;  // the thread spent filling batches
    double wait_seconds = 0;  // callers of next() waited
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
  // Submitted and not delivered, oldest first: of the first ready_ the batch is filled, of the first requested_ the
  // kernel was asked to read the rows. The thread holds the one that it works on, as close() clears the queue.
  std::deque<std::shared_ptr<Result>> pending_;
  size_t ready_ = 0, requested_ = 0;
  bool closed_ = false;
  Stats stats_;

  std::mutex closing_;  // held while the thread is joined: a second close() waits for it too
  std::thread thread_;  // started by the first submit()
};

}  // namespace lds
