// Fills batches ahead of the caller, in a thread of its own and without the GIL.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "loading/gather.h"
#include "loading/ring.h"

namespace lds {

// What shall be in a batch.
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

class Prefetcher {
 public:
  // The fields' rows are numbered by sample.
  Prefetcher(std::shared_ptr<const Gather> gather, std::vector<std::shared_ptr<const Rows>> fields,
             std::shared_ptr<Ring> ring, std::shared_ptr<ThreadPool> pool);
  ~Prefetcher();  // drops what is not delivered, and joins the thread
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // What a batch of so many samples takes.
  int64_t batch_bytes(int64_t samples) const;

  // Batches are made in the order in which they are submitted.
  void submit(BatchRequest request);

  // The oldest batch that is submitted and not delivered; nothing when it is not there in time. What went wrong in
  // making it is thrown here, once; later batches are not affected.
  // Error(Reason::value) when none is submitted, when closed, and in a forked child, which has not got the thread.
  std::optional<Batch> next(std::chrono::milliseconds patience);

  // Drops what is not delivered and joins the thread. Batches that the caller holds stay.
  void close() noexcept;

  struct Stats {
    int64_t batches = 0, samples = 0;
    int64_t read_ahead = 0;  // samples that were not in memory, or their batch's others, asked for ahead
    double filling = 0;      // seconds that the thread spent making batches
    double waiting = 0;      // seconds that callers of next() waited
    int64_t pending = 0, ready = 0;
  };
  Stats stats() const;

 private:
  struct State;
  State& mine() const;

  std::unique_ptr<State> state_;
};

}  // namespace lds
