// Wrappers for values that own mutexes or threads. After fork(), a child must not use or destroy such a value: a mutex
// may be locked by a thread of the parent, and the child has no copy of that thread. The child's copy is leaked.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "common/error.h"

namespace lds {

// A number that differs between a process and its forked children. A pid does not always: a child in its own PID
// namespace can have the pid of its parent, and pids are reused.
uint64_t fork_generation() noexcept;

// A value with one instance per process: the first get() in a forked child creates the child's own.
template <class T>
class ForkLocal {
 public:
  using Factory = std::function<std::unique_ptr<T>()>;

  explicit ForkLocal(Factory factory = [] { return std::make_unique<T>(); }) : factory_(std::move(factory)) {
    instance_.store(new Instance{fork_generation(), factory_()}, std::memory_order_release);
  }
  ~ForkLocal() {
    std::unique_ptr<Instance> instance(instance_.load(std::memory_order_acquire));
    if (instance->owner != fork_generation()) static_cast<void>(instance.release());
  }
  ForkLocal(const ForkLocal&) = delete;
  ForkLocal& operator=(const ForkLocal&) = delete;

  T& get() const {
    Instance* instance = instance_.load(std::memory_order_acquire);
    while (instance->owner != fork_generation()) {
      auto created = std::unique_ptr<Instance>(new Instance{fork_generation(), factory_()});
      if (instance_.compare_exchange_strong(instance, created.get(), std::memory_order_acq_rel))
        return *created.release()->value;
    }
    return *instance->value;
  }

 private:
  struct Instance {
    uint64_t owner;
    std::unique_ptr<T> value;
  };
  Factory factory_;
  mutable std::atomic<Instance*> instance_{nullptr};
};

// A value that only the process that created it can use.
template <class T>
class ProcessOwned {
 public:
  explicit ProcessOwned(std::unique_ptr<T> value) noexcept : value_(std::move(value)) {}
  ~ProcessOwned() {
    if (owner_ != fork_generation()) static_cast<void>(value_.release());
  }
  ProcessOwned(const ProcessOwned&) = delete;
  ProcessOwned& operator=(const ProcessOwned&) = delete;

  // nullptr in a forked child.
  T* find() const noexcept { return owner_ == fork_generation() ? value_.get() : nullptr; }

  // Error(Reason::value) with `message` in a forked child.
  T& get(const char* message) const {
    if (T* value = find()) return *value;
    throw Error(Reason::value, message);
  }

 private:
  const uint64_t owner_ = fork_generation();
  std::unique_ptr<T> value_;
};

}  // namespace lds
