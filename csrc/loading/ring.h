// Memory for batches, allocated once and used again only when nothing refers to it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "common/fork_local.h"

namespace lds {

// Zeroed memory with all its pages mapped, in huge pages where the kernel gives them.
std::shared_ptr<uint8_t> page_memory(int64_t bytes);  // Error(Reason::io)

// Safe from several threads. A forked child has a ring of its own; slots that it inherited stay as they are.
class Ring {
 public:
  using Allocate = std::function<std::shared_ptr<uint8_t>(int64_t)>;

  // Up to `slots` slots stay allocated when idle, and more while all of them were in use recently.
  Ring(int64_t slot_bytes, int slots, Allocate allocate = page_memory);

  // A slot of at least `bytes`. It comes back when the last copy of the pointer goes, from whichever thread, also
  // after the ring is gone.
  std::shared_ptr<uint8_t> take(int64_t bytes);

  struct Stats {
    int64_t slots = 0;   // allocated now, in use or idle
    int64_t in_use = 0;  // held by a batch
    int64_t slot_bytes = 0;
    int64_t allocations = 0;  // since the ring was made
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
