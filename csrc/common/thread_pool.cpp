#include "common/thread_pool.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace lds {
namespace {

// The loop of parallel_for(), whose caller waits for its end.
class BodyLoop : public ThreadPool::Loop {
 public:
  explicit BodyLoop(const ThreadPool::Body& body) : body_(body) {}

  void run(int64_t begin, int64_t end, int worker) override { body_(begin, end, worker); }

  void finished(std::exception_ptr error) noexcept override {
    const std::lock_guard<std::mutex> lock(mutex_);
    error_ = std::move(error);
    done_ = true;
    ended_.notify_one();  // with the lock, since the waiting thread then destroys this
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    ended_.wait(lock, [&] { return done_; });
    if (error_) std::rethrow_exception(std::move(error_));
  }

 private:
  const ThreadPool::Body& body_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool done_ = false;
  std::exception_ptr error_;
};

}  // namespace

// The threads, and the list of the loops that they take chunks of.
class ThreadPool::Workers {
 public:
  Workers() = default;
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      quit_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::mutex& one_at_a_time() noexcept { return one_at_a_time_; }

  void start(Loop& loop, int64_t n, int64_t grain, int threads) {
    loop.n_ = n;
    loop.grain_ = std::max<int64_t>(grain, 1);
    loop.users_ = 1;
    int64_t wanted = (n + loop.grain_ - 1) / loop.grain_;  // threads to be woken
    int sleeping = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      add_threads(threads);
      // the thread that calls takes a chunk itself, unless it has an older loop to help with
      if (first_ == nullptr) --wanted;
      if (n > 0 && !threads_.empty()) append(loop);
      sleeping = sleeping_;
    }
    if (wanted >= sleeping) {
      if (sleeping > 0) wake_.notify_all();
    } else {
      for (; wanted > 0; --wanted) wake_.notify_one();
    }
  }

  static void take_chunks(Loop& loop, int worker, const std::atomic<bool>* pause, std::mutex& mutex) noexcept {
    int64_t begin = 0;
    try {
      while (!loop.failed_.load(std::memory_order_relaxed)) {
        begin = loop.next_.fetch_add(loop.grain_, std::memory_order_relaxed);
        if (begin >= loop.n_) return;
        loop.run(begin, std::min(begin + loop.grain_, loop.n_), worker);
        if (pause != nullptr && pause->load(std::memory_order_relaxed)) return;
      }
    } catch (...) {
      // All chunks before this one have been taken, and run to their end, so the one kept does not depend on the
      // threads.
      const std::lock_guard<std::mutex> lock(mutex);
      if (!loop.error_ || begin < loop.error_begin_) {
        loop.error_ = std::current_exception();
        loop.error_begin_ = begin;
      }
      loop.failed_.store(true, std::memory_order_relaxed);
    }
  }

  std::mutex& mutex() noexcept { return mutex_; }

  void leave(Loop& loop) noexcept {
    std::unique_lock<std::mutex> lock(mutex_);
    leave(loop, lock);
  }

 private:
  // If the system refuses to start a thread, the loop runs on those that did start.
  void add_threads(int count) {
    while (static_cast<int>(threads_.size()) < count) {
      const int worker = static_cast<int>(threads_.size()) + 1;
      try {
        threads_.emplace_back([this, worker] { serve(worker); });
      } catch (const std::system_error&) {
        return;
      }
    }
  }

  void serve(int worker) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      ++sleeping_;
      wake_.wait(lock, [&] { return quit_ || first_ != nullptr; });
      --sleeping_;
      if (quit_) return;
      Loop& loop = *first_;
      ++loop.users_;
      lock.unlock();
      take_chunks(loop, worker, nullptr, mutex_);
      lock.lock();
      leave(loop, lock);
    }
  }

  // No chunk of the loop is left to be taken. The last thread that leaves ends it.
  void leave(Loop& loop, std::unique_lock<std::mutex>& lock) noexcept {
    if (loop.offered_) remove(loop);
    if (--loop.users_ > 0) return;
    std::exception_ptr error = std::move(loop.error_);
    lock.unlock();
    loop.finished(std::move(error));
    lock.lock();
  }

  void append(Loop& loop) noexcept {
    (last_ == nullptr ? first_ : last_->following_) = &loop;
    last_ = &loop;
    loop.offered_ = true;
  }

  void remove(Loop& loop) noexcept {
    Loop* before = nullptr;
    for (Loop* one = first_; one != &loop; one = one->following_) before = one;
    (before == nullptr ? first_ : before->following_) = loop.following_;
    if (last_ == &loop) last_ = before;
    loop.offered_ = false;
  }

  std::mutex one_at_a_time_;  // held by parallel_for()
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> threads_;
  int sleeping_ = 0;  // threads that wait for a loop
  bool quit_ = false;
  // Loops of which chunks may be left, in the order in which they were started.
  Loop* first_ = nullptr;
  Loop* last_ = nullptr;
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
  Workers& workers = workers_.get();
  const std::lock_guard<std::mutex> one_at_a_time(workers.one_at_a_time());
  BodyLoop loop(body);
  workers.start(loop, n, grain, threads_ - 1);
  Workers::take_chunks(loop, 0, nullptr, workers.mutex());
  workers.leave(loop);
  loop.wait();
}

void ThreadPool::start(Loop& loop, int64_t n, int64_t grain) { workers_.get().start(loop, n, grain, threads_ - 1); }

bool ThreadPool::help(Loop& loop, const std::atomic<bool>& pause) {
  Workers::take_chunks(loop, 0, &pause, workers_.get().mutex());
  return loop.failed_.load(std::memory_order_relaxed) || loop.next_.load(std::memory_order_relaxed) >= loop.n_;
}

void ThreadPool::leave(Loop& loop) noexcept {
  loop.next_.store(loop.n_, std::memory_order_relaxed);
  workers_.get().leave(loop);
}

}  // namespace lds
