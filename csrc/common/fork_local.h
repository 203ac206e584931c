// Values that a forked child must not touch: fork() copies the parent's mutexes as they are in that moment, held ones
// too, and none of its threads. What holds either is kept in one of these; the child's copy is left alone, unfreed.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "common/error.h"

namespace lds {

// Another number in every forked child than in its parent. A pid is not: a child in a PID namespace of its own may have
// its parent's, and pids are given out again.
uint64_t fork_generation() noexcept;

// A value that a child makes afresh: the first get() in it makes another one.
template <class T>
class ForkLocal {
 public:
  using Make = std::function<std::unique_ptr<T>()>;

  explicit ForkLocal(Make make = [] { return std::make_unique<T>(); }) : make_(std::move(make)) {
    held_.store(new Held{fork_generation(), make_()}, std::memory_order_release);
  }
  ~ForkLocal() {
    std::unique_ptr<Held> held(held_.load(std::memory_order_acquire));
    if (held->owner != fork_generation()) static_cast<void>(held.release());
  }
  ForkLocal(const ForkLocal&) = delete;
  ForkLocal& operator=(const ForkLocal&) = delete;

  T& get() const {
    Held* held = held_.load(std::memory_order_acquire);
    while (held->owner != fork_generation()) {
      auto fresh = std::unique_ptr<Held>(new Held{fork_generation(), make_()});
      if (held_.compare_exchange_strong(held, fresh.get(), std::memory_order_acq_rel)) return *fresh.release()->value;
    }
    return *held->value;
  }

 private:
  struct Held {
    uint64_t owner;
    std::unique_ptr<T> value;
  };
  Make make_;
  mutable std::atomic<Held*> held_{nullptr};
};

// A value that only the process which made it can use.
template <class T>
class ProcessOwned {
 public:
  explicit ProcessOwned(std::unique_ptr<T> value) noexcept : value_(std::move(value)) {}
  ~ProcessOwned() {
    if (owner_ != fork_generation()) static_cast<void>(value_.release());
  }
  ProcessOwned(const ProcessOwned&) = delete;
  ProcessOwned& operator=(const ProcessOwned&) = delete;

  // nullptr in a child.
  T* find() const noexcept { return owner_ == fork_generation() ? value_.get() : nullptr; }

  // Error(Reason::value) with `message` in a child.
  T& get(const char* message) const {
    if (T* value = find()) return *value;
    throw Error(Reason::value, message);
  }

 private:
  const uint64_t owner_ = fork_generation();
  std::unique_ptr<T> value_;
};

}  // namespace lds
