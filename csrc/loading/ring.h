// Allocates memory for batches, and reuses it when no tensor refers to it any more.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "common/fork_local.h"

namespace lds {

// Zeroed memory with all pages mapped, in huge pages if the kernel provides them.
std::shared_ptr<uint8_t> page_memory(int64_t bytes);  // Error(Reason::io)

// Thread-safe. A forked child has a ring of its own, and never reuses or frees the slots that it inherited.
class Ring {
 public:
  using Allocate = std::function<std::shared_ptr<uint8_t>(int64_t)>;

  // Up to `slots` slots stay allocated when idle, or more if more were in use recently.
  Ring(int64_t slot_bytes, int slots, Allocate allocate = page_memory);

  // Takes a slot of at least `bytes`. The slot returns to the ring when the last copy of the pointer is destroyed, in
  // any thread. The pointer may outlive the ring.
  std::shared_ptr<uint8_t> take(int64_t bytes);

  struct Stats {
    int64_t slots = 0;   // currently allocated, in use or idle
    int64_t in_use = 0;  // held by a batch
    int64_t slot_bytes = 0;
    int64_t allocations = 0;  // in total
  };
  Stats stats() const;

  // Frees the idle slots.
  void trim();

 private:
  class Slots;  // shared with the pointers that take() gave out, which may outlive the ring

  Allocate allocate_;
  ForkLocal<std::shared_ptr<Slots>> slots_;
};

}  // namespace lds
