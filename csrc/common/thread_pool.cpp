#include "common/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "common/error.h"

namespace lds {

// The threads and the loop that they work on.
struct ThreadPool::Crew {
  std::mutex turn;  // held by the caller whose loop it is
  std::mutex mutex;
  std::condition_variable work, done;
  std::vector<std::thread> threads;
  uint64_t loop = 0;  // number of the loop; a thread wakes when it changes
  int busy = 0;
  bool quit = false;

  const Body* body = nullptr;
  int64_t n = 0, grain = 1;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;

  void take_chunks(int worker) {
    try {
      while (!failed.load(std::memory_order_relaxed)) {
        const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= n) return;
        (*body)(begin, std::min(begin + grain, n), worker);
      }
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!error) error = std::current_exception();
      failed.store(true, std::memory_order_relaxed);
    }
  }

  void serve(int worker, uint64_t seen) {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      work.wait(lock, [&] { return quit || loop != seen; });
      if (quit) return;
      seen = loop;
      lock.unlock();
      take_chunks(worker);
      lock.lock();
      if (--busy == 0) done.notify_one();
    }
  }

  // Where the system gives no more threads, the loop runs on those there are.
  void start(int wanted) {
    while (static_cast<int>(threads.size()) < wanted) {
      const int worker = static_cast<int>(threads.size()) + 1;
      try {
        threads.emplace_back([this, worker, seen = loop] { serve(worker, seen); });
      } catch (const std::system_error&) {
        return;
      }
    }
  }

  Crew() = default;
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  ~Crew() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      quit = true;
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  if (threads < 1) {
    throw Error(Reason::value, "threads must be at least 1, found " + std::to_string(threads));
  }
}

ThreadPool::~ThreadPool() = default;

void ThreadPool::parallel_for(int64_t n, int64_t grain, const Body& body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  if (threads_ == 1 || n <= grain) {
    for (int64_t begin = 0; begin < n; begin += grain) body(begin, std::min(begin + grain, n), 0);
    return;
  }
  Crew& crew = crew_.get();
  const std::lock_guard<std::mutex> turn(crew.turn);
  crew.start(threads_ - 1);
  {
    const std::lock_guard<std::mutex> lock(crew.mutex);
    crew.body = &body;
    crew.n = n;
    crew.grain = grain;
    crew.next.store(0, std::memory_order_relaxed);
    crew.failed.store(false, std::memory_order_relaxed);
    crew.error = nullptr;
    crew.busy = static_cast<int>(crew.threads.size());
    ++crew.loop;
  }
  crew.work.notify_all();
  crew.take_chunks(0);
  std::unique_lock<std::mutex> lock(crew.mutex);
  crew.done.wait(lock, [&] { return crew.busy == 0; });
  if (crew.error) std::rethrow_exception(std::exchange(crew.error, nullptr));
}

}  // namespace lds
