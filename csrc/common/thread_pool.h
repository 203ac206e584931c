// A pool of threads for parallel loops. The threads start with the first loop. A forked child, which has no copy of
// them, starts its own.
#pragma once

#include <cstdint>
#include <functional>

#include "common/fork_local.h"

namespace lds {

class ThreadPool {
 public:
  // body(begin, end, worker) processes items [begin, end); worker is in [0, size()).
  using Body = std::function<void(int64_t, int64_t, int)>;

  // `threads` counts the calling thread: a pool of 1 starts no threads. Error(Reason::value) below 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const noexcept { return threads_; }

  // Runs `body` over [0, n) in chunks of at most `grain` items and returns when all are done. Each worker takes the
  // next chunk when it has finished one. If `body` throws, no further chunk is started, and the first exception is
  // rethrown here once all workers have stopped. Concurrent calls run one after the other.
  void parallel_for(int64_t n, int64_t grain, const Body& body);

 private:
  class Workers;
  const int threads_;
  ForkLocal<Workers> workers_;
};

}  // namespace lds
