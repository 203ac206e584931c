// A pool of threads for parallel loops. The threads start with the first loop. A forked child, which has no copy of
// them, starts its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>

#include "common/fork_local.h"

namespace lds {

class ThreadPool {
 public:
  class Loop;
  // body(begin, end, worker) processes items [begin, end); worker is in [0, size()).
  using Body = std::function<void(int64_t, int64_t, int)>;

  // `threads` counts the calling thread: a pool of 1 starts no threads. Error(Reason::value) below 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const noexcept { return threads_; }

  // Runs `body` over [0, n) in chunks of at most `grain` items and returns when all are done. Each worker takes the
  // next chunk when it has finished one. If `body` throws, no further chunk is started, and the exception of
  // the first item that failed is rethrown here once all workers have stopped. Concurrent calls run one after the
  // other.
  void parallel_for(int64_t n, int64_t grain, const Body& body);

  // A thread that has several loops to run needs not wait for the end of one before the next: it starts them, helps
  // with each in the order in which they were started, and leaves each. The pool's threads do the same, so that those
  // which find no chunk of one loop go on with the next. One thread must start, help with and leave a loop, since it is
  // worker 0 of it; it may have started any number of loops. Several threads that each run loops beside those of the
  // pool are served in the order of start().

  // Offers the chunks of a loop over [0, n), of at most `grain` items, to the pool's threads. Does not wait. If it
  // throws, the loop is not started.
  void start(Loop& loop, int64_t n, int64_t grain);

  // Takes chunks in this thread. Returns true if none is left to be taken; the last ones may still run in other
  // threads. Returns false after a chunk during which `pause` became true.
  bool help(Loop& loop, const std::atomic<bool>& pause);

  // To be called once for each loop that was started. Chunks that nobody has taken are dropped. The loop ends, here or
  // in another thread, when no thread works on it any more.
  void leave(Loop& loop) noexcept;

 private:
  class Workers;
  const int threads_;
  ForkLocal<Workers> workers_;
};

// What a loop does. It must stay where it is from start() until finished().
class ThreadPool::Loop {
 public:
  Loop() = default;
  virtual ~Loop() = default;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Processes items [begin, end); worker is in [0, size()), and 0 is the thread that started the loop. After an
  // exception, no further chunk is started.
  virtual void run(int64_t begin, int64_t end, int worker) = 0;

  // Called once, when the loop has ended, by the thread that ended it, with the exception of the first item that
  // failed, if one did. The pool does not touch the loop afterwards, so it may be destroyed.
  virtual void finished(std::exception_ptr error) noexcept = 0;

 private:
  friend class ThreadPool;

  // on a cache line of its own, since all threads write to it while they read what follows
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) int64_t n_ = 0;
  int64_t grain_ = 1;
  std::atomic<bool> failed_{false};
  // guarded by the pool's mutex
  int users_ = 0;              // threads that may take chunks, or run one
  bool offered_ = false;       // whether it is in the pool's list
  Loop* following_ = nullptr;  // in that list
  std::exception_ptr error_;
  int64_t error_begin_ = 0;  // where the chunk of that exception begins
};

}  // namespace lds
