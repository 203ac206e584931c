// A bounded pool of threads for loops. Threads start at the first loop, and start again in a child
// process after fork(), where the parent's threads do not exist.
#pragma once

#include <cstdint>
#include <functional>

#include "common/fork_local.h"

namespace lds {

class ThreadPool {
 public:
  // body(begin, end, worker): items [begin, end), worker in [0, size()).
  using Body = std::function<void(int64_t, int64_t, int)>;

  // threads >= 1, the caller's thread included: a pool of 1 starts none.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const noexcept { return threads_; }

  // Runs body over [0, n) in chunks of at most `grain` items that workers take as they come, and returns
  // when all is done. The first exception is thrown here, after the other workers have stopped;
  // chunks not yet begun are then left out. Callers from several threads take turns.
  void parallel_for(int64_t n, int64_t grain, const Body& body);

 private:
  class Workers;
  const int threads_;
  ForkLocal<Workers> workers_;
};

}  // namespace lds
