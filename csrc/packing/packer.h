// Images -> rows in a file or in memory, on all processors: read, decode, resize, crop, augment, convert, count, hash,
// write.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/thread_pool.h"
#include "packing/pack_worker.h"

namespace lds {

// Where rows go: item i of a job to row `rows[i]` (row i without `rows`), each of sample_bytes(). Without a file or
// memory they are only hashed and counted.
struct PackTarget {
  int descriptor = -1;        // of a file that is open for writing
  int64_t offset = 0;         // in it, of row 0
  uint8_t* memory = nullptr;  // of memory_rows rows
  int64_t memory_rows = 0;
  std::vector<int64_t> rows = {};
};

// One job at a time, on threads of its own; call it from one thread. Keeps its buffers between jobs. Whoever may be
// forked keeps it in a ProcessOwned.
class Packer {
 public:
  Packer(const PackSpec& spec, int threads);
  ~Packer();  // cancels a job that runs, and waits for it
  Packer(const Packer&) = delete;
  Packer& operator=(const Packer&) = delete;

  int64_t sample_bytes() const noexcept { return sample_bytes_; }  // stored for one image, with all its variants

  // Starts a job and returns at once. samples[i] is item i's number in the augmentation's draws.
  void start(std::vector<PackItem> items, std::vector<int64_t> samples, PackTarget target);

  // Waits at most so long; true when the job is done.
  bool wait(double seconds);

  // Items done so far. Any thread may ask.
  int64_t done() const noexcept { return done_.load(std::memory_order_relaxed); }

  // No further image is begun.
  void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }

  // Waits for the job. An error that is no single image's (a full disk) is thrown here.
  PackResult result();

  // Over all jobs so far; while none runs.
  PackClock clock() const;

 private:
  void join();
  void run() noexcept;
  void pack_all();
  void pack(int64_t begin, int64_t end, PackWorker& worker);
  int64_t row_of(int64_t item) const noexcept;
  void check(size_t items, size_t samples, const PackTarget& target) const;
  void write(int64_t begin, int64_t end, const uint8_t* rows, PackWorker& worker) const;

  const PackSpec spec_;
  const int64_t sample_bytes_;
  ThreadPool pool_;
  std::vector<std::unique_ptr<PackWorker>> workers_;  // one a thread, made when it gets its first items

  // the job
  std::vector<PackItem> items_;
  std::vector<int64_t> samples_;
  PackTarget target_;
  PackResult result_;
  std::exception_ptr error_;
  std::atomic<int64_t> done_{0};
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::condition_variable finished_;
  bool running_ = false;
  std::thread driver_;  // runs the loop over the items
};

}  // namespace lds
