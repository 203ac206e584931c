// Tests ThreadPool: all items are processed, errors are rethrown, and forked children have threads of their own.
#include <doctest/doctest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "common/error.h"
#include "common/thread_pool.h"
#include "no_threads.h"

using lds::ThreadPool;

namespace {

int64_t sum_to(ThreadPool& pool, int64_t n, int64_t grain) {
  std::atomic<int64_t> total{0};
  pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) total += i;
  });
  return total;
}

}  // namespace

TEST_CASE("every item is processed once, for any number of threads and any grain") {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int64_t n : {0, 1, 2, 63, 1000}) {
      for (const int64_t grain : {0, 1, 7, 5000}) {
        std::vector<int> seen(static_cast<size_t>(n));
        pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int worker) {
          CHECK(worker >= 0);
          CHECK(worker < threads);
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        CHECK(std::accumulate(seen.begin(), seen.end(), int64_t{0}) == n);
      }
    }
  }
  CHECK_THROWS_AS(ThreadPool(0), lds::Error);
}

TEST_CASE("the first exception is rethrown, and the pool remains usable") {
  ThreadPool pool(4);
  for (int round = 0; round < 20; ++round) {
    CHECK_THROWS_AS(pool.parallel_for(100, 1,
                                      [&](int64_t begin, int64_t, int) {
                                        if (begin == 50) throw lds::Error(lds::Reason::io, "50");
                                      }),
                    lds::Error);
    CHECK(sum_to(pool, 100, 3) == 4950);
  }
}

TEST_CASE("of several exceptions, that of the first item is rethrown, whichever thread is the fastest") {
  ThreadPool pool(2);
  std::atomic<bool> failed{false};
  std::string found;
  try {
    pool.parallel_for(100, 1, [&](int64_t begin, int64_t, int) {
      if (begin > 1) return;
      while (begin == 0 && !failed) std::this_thread::yield();  // until the other thread has thrown, or is about to
      if (begin == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      failed = true;
      throw lds::Error(lds::Reason::io, std::to_string(begin));
    });
  } catch (const lds::Error& error) {
    found = error.what();
  }
  CHECK(found == "0");
}

TEST_CASE("loops of several threads run one after the other") {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::atomic<int> right{0};
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int i = 0; i < 50; ++i) right += sum_to(pool, 200, 1) == 19900;
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(right == 200);
}

#if !defined(__SANITIZE_THREAD__)  // TSan does not support threads that a forked child starts
TEST_CASE("a child that is forked during the parent's loops has a pool of its own") {
  ThreadPool pool(3);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) sum_to(pool, 500, 1);
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(sum_to(pool, 1000, 1) == 499500 ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  stop = true;
  busy.join();
}

// The child has pid 1 in its new namespace. False if the system does not allow namespaces.
bool fork_into_namespace(pid_t& child) {
  if (unshare(CLONE_NEWPID) != 0) return false;
  child = fork();
  return true;
}

TEST_CASE("a child that has its parent's pid, in a namespace of its own, has a pool of its own") {
  const pid_t outer = fork();
  if (outer == 0) {
    pid_t parent = -1, child = -1;
    int status = -1;
    if (!fork_into_namespace(parent)) _exit(2);
    if (parent == 0) {
      ThreadPool pool(3);
      const bool right = getpid() == 1 && sum_to(pool, 500, 1) == 124750;
      if (!fork_into_namespace(child)) _exit(2);
      if (child == 0) _exit(getpid() == 1 && sum_to(pool, 1000, 1) == 499500 ? 0 : 1);
      for (int i = 0; i < 300 && waitpid(child, &status, WNOHANG) == 0; ++i) usleep(100000);
      kill(child, SIGKILL);  // it may hang, and alarm() has no effect on the first process of a namespace
      _exit(right && status == 0 ? 0 : 1);
    }
    waitpid(parent, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
  }
  int status = -1;
  waitpid(outer, &status, 0);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 2) {
    MESSAGE("skipped: no PID namespaces here");
    return;
  }
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("where no thread can be started, a loop runs on the caller's") {
  ThreadPool pool(4);
  CHECK(without_threads([&] { return sum_to(pool, 1000, 1) == 499500; }));
}
#endif

namespace {

// Counts how often each item is processed, and whether two threads had the same worker's number at once.
class CountingLoop : public ThreadPool::Loop {
 public:
  CountingLoop(int64_t n, int threads) : seen(static_cast<size_t>(n)), at_work(static_cast<size_t>(threads)) {}

  void run(int64_t begin, int64_t end, int worker) override {
    if (at_work[static_cast<size_t>(worker)].exchange(true)) mixed = true;
    if (before) before(begin, worker);
    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
    at_work[static_cast<size_t>(worker)] = false;
  }
  void finished(std::exception_ptr failure) noexcept override {
    error = std::move(failure);
    ended = true;
  }
  void wait() const {
    while (!ended) std::this_thread::yield();
  }
  bool each_once() const {
    return !mixed && std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; });
  }

  std::function<void(int64_t, int)> before;
  std::vector<int> seen;
  std::vector<std::atomic<bool>> at_work;
  std::atomic<bool> mixed{false}, ended{false};
  std::exception_ptr error;
};

void help_to_the_end(ThreadPool& pool, ThreadPool::Loop& loop) {
  const std::atomic<bool> never{false};
  while (!pool.help(loop, never)) {
  }
  pool.leave(loop);
}

}  // namespace

TEST_CASE("a loop that was started later may end first") {
  ThreadPool pool(2);
  CountingLoop first(2, 2), second(9, 2);
  std::atomic<int> begun{0};
  first.before = [&](int64_t, int worker) {
    ++begun;
    while (begun < 2) std::this_thread::yield();  // each thread has a chunk of it
    if (worker == 1) second.wait();
  };
  pool.start(first, 2, 1);
  pool.start(second, 9, 2);
  help_to_the_end(pool, first);
  CHECK(!first.ended);
  help_to_the_end(pool, second);
  second.wait();
  first.wait();
  CHECK(first.each_once());
  CHECK(second.each_once());
}

TEST_CASE("loops of any length run beside each other, for several threads that start them") {
  for (const int threads : {1, 2, 5, 16, 64}) {
    ThreadPool pool(threads);
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller) {
      callers.emplace_back([&, caller] {
        for (int64_t round = 0; round < 40; ++round) {
          std::vector<std::unique_ptr<CountingLoop>> loops;
          for (int64_t i = 0; i < 4; ++i) {
            const int64_t n = (round * 13 + i * 29 + caller) % 70;
            pool.start(*loops.emplace_back(std::make_unique<CountingLoop>(n, threads)), n, 1 + (round + i) % 5);
          }
          const std::atomic<bool> always{true};  // after each chunk
          for (const auto& loop : loops) {
            while (!pool.help(*loop, always)) {
            }
            pool.leave(*loop);
          }
          wrong += sum_to(pool, 100, 7) == 4950 ? 0 : 1;
          for (const auto& loop : loops) {
            loop->wait();
            wrong += loop->each_once() ? 0 : 1;
          }
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(wrong == 0);
  }
}

TEST_CASE("an exception ends only its own loop, and what nobody has taken is dropped when a loop is left") {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    CountingLoop fails(100, threads), whole(100, threads), dropped(100, threads);
    std::atomic<bool> left{false};
    dropped.before = [&](int64_t, int) {
      while (!left) std::this_thread::yield();
    };
    fails.before = [](int64_t begin, int) {
      if (begin == 7) throw lds::Error(lds::Reason::io, "7");
    };
    pool.start(fails, 100, 1);
    pool.start(whole, 100, 1);
    help_to_the_end(pool, fails);
    help_to_the_end(pool, whole);
    fails.wait();
    whole.wait();
    CHECK_THROWS_AS(std::rethrow_exception(fails.error), lds::Error);
    CHECK(!whole.error);
    CHECK(whole.each_once());
    pool.start(dropped, 100, 1);
    pool.leave(dropped);
    left = true;
    dropped.wait();
    CHECK(std::accumulate(dropped.seen.begin(), dropped.seen.end(), 0) < threads);  // a chunk for each that had one
  }
}
