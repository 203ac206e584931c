// A value that a forked child makes afresh.
#pragma once

#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

namespace lds {

// fork() copies the parent's mutexes as they are in that moment, held ones too, and none of its threads. What holds
// either is kept in here: the first get() in a child makes another one and leaves the copy alone, unfreed.
template <class T>
class ForkLocal {
 public:
  using Make = std::function<std::unique_ptr<T>()>;

  explicit ForkLocal(Make make = [] { return std::make_unique<T>(); }) : make_(std::move(make)) {
    held_.store(new Held{getpid(), make_()}, std::memory_order_release);
  }
  ~ForkLocal() {
    std::unique_ptr<Held> held(held_.load(std::memory_order_acquire));
    if (held->owner != getpid()) static_cast<void>(held.release());
  }
  ForkLocal(const ForkLocal&) = delete;
  ForkLocal& operator=(const ForkLocal&) = delete;

  T& get() const {
    Held* held = held_.load(std::memory_order_acquire);
    while (held->owner != getpid()) {
      auto fresh = std::unique_ptr<Held>(new Held{getpid(), make_()});
      if (held_.compare_exchange_strong(held, fresh.get(), std::memory_order_acq_rel)) return *fresh.release()->value;
    }
    return *held->value;
  }

 private:
  struct Held {
    pid_t owner;
    std::unique_ptr<T> value;
  };
  Make make_;
  mutable std::atomic<Held*> held_{nullptr};
};

}  // namespace lds
