// Packs images to rows in a file or in memory, on several threads: reads, decodes, resizes, crops, augments, converts,
// sums, hashes and writes them.
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
#include "packing/ordered_appender.h"
#include "packing/pack_worker.h"

namespace lds {

// Where a job writes rows: item i to row rows[i], or to row i if `rows` is empty. A row has sample_bytes() bytes.
// Without a file or memory, rows are only hashed and summed. Rows that are files are written to a file, one after
// another from `offset` on.
struct PackTarget {
  int descriptor = -1;        // of a file that is open for writing
  int64_t offset = 0;         // of row 0 in the file
  uint8_t* memory = nullptr;  // space for memory_rows rows
  int64_t memory_rows = 0;
  std::vector<int64_t> rows = {};
};

// Runs one job at a time on threads of its own, and reuses its buffers. Not thread-safe, except for done(). Keep it in
// a ProcessOwned if the process may fork.
class Packer {
 public:
  Packer(const PackSpec& spec, int threads);
  ~Packer();  // cancels a running job and waits for its end
  Packer(const Packer&) = delete;
  Packer& operator=(const Packer&) = delete;

  // Stored bytes per image, with all variants; of no meaning for JPEG rows.
  int64_t sample_bytes() const noexcept { return sample_bytes_; }

  // Starts a job and returns. samples[i] is the sample number of item i in the random draws of the augmentation; if
  // `samples` is empty, it is i.
  void start(std::vector<PackItem> items, std::vector<int64_t> samples, PackTarget target);

  // Waits at most this long. True if the job is done.
  bool wait(double seconds);

  // The number of items done so far. Thread-safe.
  int64_t done() const noexcept { return done_.load(std::memory_order_relaxed); }

  // Cancels the job: no further image is started.
  void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }

  // Waits for the end of the job. Throws errors that do not concern a single image, for instance a full disk.
  PackResult result();

  // The times of all jobs so far. Call it only while no job runs.
  PackClock clock() const;

 private:
  void join();
  void run() noexcept;
  void pack_all();
  void pack(int64_t begin, int64_t end, PackWorker& worker);
  int64_t grain() const noexcept;
  void pack_chunk(int64_t begin, int64_t end, std::unique_ptr<PackWorker>& worker);
  void pack_files(int64_t begin, int64_t end, PackWorker& worker);
  int64_t row_of(int64_t item) const noexcept;
  void check(size_t items, size_t samples, const PackTarget& target) const;
  void write(int64_t begin, int64_t end, const uint8_t* rows, PackWorker& worker) const;

  const PackSpec spec_;
  const int64_t sample_bytes_;
  ThreadPool pool_;
  std::vector<std::unique_ptr<PackWorker>> workers_;  // one per thread, created with its first chunk

  // the current job
  std::vector<PackItem> items_;
  std::vector<int64_t> samples_;
  PackTarget target_;
  std::unique_ptr<OrderedAppender> appender_;  // of rows that are files
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
