#include "loading/ring.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"

namespace lds {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
// How many takes the ring remembers the most slots in use: twice that long it keeps them allocated.
constexpr int kWindow = 64;

// Every page is written once, now, and not by the first batch.
void populate(uint8_t* data, int64_t bytes) {
#if defined(MADV_POPULATE_WRITE)
  if (madvise(data, static_cast<size_t>(bytes), MADV_POPULATE_WRITE) == 0) return;
#endif
  const int64_t page = sysconf(_SC_PAGESIZE);
  for (int64_t at = 0; at < bytes; at += page) *const_cast<volatile uint8_t*>(data + at) = 0;
}

}  // namespace

std::shared_ptr<uint8_t> page_memory(int64_t bytes) {
  const int64_t alignment = bytes >= kHugePage ? kHugePage : 0;
  const auto length = static_cast<size_t>(std::max<int64_t>(bytes, 1) + alignment);
  void* address = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    throw Error(Reason::io, "no memory for a batch of " + std::to_string(bytes) + " bytes: " + std::strerror(errno));
  }
  auto* data = static_cast<uint8_t*>(address);
  if (alignment > 0) {
    data += (alignment - static_cast<int64_t>(reinterpret_cast<uintptr_t>(data) % kHugePage)) % alignment;
    madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  }
  std::shared_ptr<uint8_t> memory(data, [address, length](uint8_t*) { munmap(address, length); });
  populate(data, bytes);
  return memory;
}

struct Ring::State {
  const pid_t owner = getpid();
  std::mutex mutex;
  int64_t slot_bytes = 0;
  int64_t slots = 0;
  int64_t in_use = 0, allocations = 0;
  int64_t peak = 0, last_peak = 0;  // most slots in use, in this window of takes and in the one before
  int takes = 0;
  std::vector<std::shared_ptr<uint8_t>> idle;

  void count_take() {
    ++in_use;
    if (++takes == kWindow) {
      takes = 0;
      last_peak = std::exchange(peak, in_use);
    }
    peak = std::max(peak, in_use);
  }

  void give_back(std::shared_ptr<uint8_t> memory, int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex);
    --in_use;
    const int64_t wanted = std::max({slots, peak, last_peak});
    const auto allocated = in_use + static_cast<int64_t>(idle.size());
    if (bytes == slot_bytes && allocated < wanted) idle.push_back(std::move(memory));
  }
};

Ring::Ring(int64_t slot_bytes, int slots, Allocate allocate)
    : allocate_(std::move(allocate)), state_([slot_bytes, slots] {
        auto state = std::make_unique<std::shared_ptr<State>>(std::make_shared<State>());
        (*state)->slot_bytes = slot_bytes;
        (*state)->slots = slots;
        return state;
      }) {}

std::shared_ptr<Ring::State>& Ring::state() const { return state_.get(); }

std::shared_ptr<uint8_t> Ring::take(int64_t bytes) {
  const std::shared_ptr<State> state = this->state();
  std::shared_ptr<uint8_t> memory;
  std::vector<std::shared_ptr<uint8_t>> too_small;  // let go after the lock
  int64_t size = 0;
  {
    const std::lock_guard<std::mutex> lock(state->mutex);
    if (bytes > state->slot_bytes) {
      state->slot_bytes = bytes;
      too_small.swap(state->idle);
    }
    size = state->slot_bytes;
    if (!state->idle.empty()) {
      memory = std::move(state->idle.back());
      state->idle.pop_back();
    } else {
      ++state->allocations;
    }
    state->count_take();
  }
  if (!memory) {
    try {
      memory = allocate_(size);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(state->mutex);
      --state->in_use;
      throw;
    }
  }
  uint8_t* data = memory.get();
  return {data, [state, size, memory = std::move(memory)](uint8_t*) mutable {
            if (state->owner == getpid()) {
              state->give_back(std::move(memory), size);
            } else {  // in a child: the lock may be held for ever, and pinned memory is its maker's to free
              static_cast<void>(new std::shared_ptr<uint8_t>(std::move(memory)));
            }
          }};
}

Ring::Stats Ring::stats() const {
  State& state = *this->state();
  const std::lock_guard<std::mutex> lock(state.mutex);
  return {state.in_use + static_cast<int64_t>(state.idle.size()), state.in_use, state.slot_bytes, state.allocations};
}

void Ring::trim() {
  std::vector<std::shared_ptr<uint8_t>> idle;
  State& state = *this->state();
  const std::lock_guard<std::mutex> lock(state.mutex);
  idle.swap(state.idle);
  state.peak = state.last_peak = 0;
}

}  // namespace lds
