#include "loading/ring.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "common/file.h"

namespace lds {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
// Peak usage is tracked over windows of this many takes; idle slots above the peak of the last two windows are freed.
constexpr int kWindow = 64;

// Touches every page, so that filling the first batch causes no page faults.
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
    throw system_error("no memory for a batch of " + std::to_string(bytes) + " bytes");
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

class Ring::Slots {
 public:
  struct Slot {
    std::shared_ptr<uint8_t> memory;
    int64_t bytes = 0;
  };

  Slots(int64_t slot_bytes, int slots) : keep_(slots), slot_bytes_(slot_bytes) {}

  // Returns an idle slot of at least `bytes`, or a new slot without memory. Also reserves the memory for release().
  std::unique_ptr<Slot> take(int64_t bytes) {
    std::vector<std::unique_ptr<Slot>> too_small;  // freed after the lock
    const std::lock_guard<std::mutex> lock(mutex_);
    if (bytes > slot_bytes_) {
      slot_bytes_ = bytes;
      too_small.swap(idle_);
    }
    std::unique_ptr<Slot> slot;
    if (idle_.empty()) {
      slot = std::make_unique<Slot>(Slot{nullptr, slot_bytes_});
      idle_.reserve(static_cast<size_t>(in_use_) + 1);
      ++allocations_;
    } else {
      slot = std::move(idle_.back());
      idle_.pop_back();
    }
    count_take();
    return slot;
  }

  void release(std::unique_ptr<Slot> slot) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    --in_use_;
    const int64_t limit = std::max({keep_, peak_, last_peak_});
    const auto allocated = in_use_ + static_cast<int64_t>(idle_.size());
    const bool keep = slot->memory != nullptr && slot->bytes == slot_bytes_ && allocated < limit;
    if (keep && idle_.size() < idle_.capacity()) idle_.push_back(std::move(slot));
  }

  Stats stats() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {in_use_ + static_cast<int64_t>(idle_.size()), in_use_, slot_bytes_, allocations_};
  }

  void trim() {
    std::vector<std::unique_ptr<Slot>> idle;
    const std::lock_guard<std::mutex> lock(mutex_);
    idle.swap(idle_);
    idle_.reserve(static_cast<size_t>(in_use_));
    peak_ = last_peak_ = 0;
  }

  bool in_this_process() const noexcept { return owner_ == fork_generation(); }

 private:
  void count_take() {
    ++in_use_;
    if (++takes_ == kWindow) {
      takes_ = 0;
      last_peak_ = std::exchange(peak_, in_use_);
    }
    peak_ = std::max(peak_, in_use_);
  }

  const uint64_t owner_ = fork_generation();
  const int64_t keep_;
  std::mutex mutex_;
  int64_t slot_bytes_;
  int64_t in_use_ = 0, allocations_ = 0;
  int64_t peak_ = 0, last_peak_ = 0;  // peak of in_use_ in this window of takes, and in the previous one
  int takes_ = 0;
  std::vector<std::unique_ptr<Slot>> idle_;  // has capacity for all slots, so that release() can't fail
};

Ring::Ring(int64_t slot_bytes, int slots, Allocate allocate)
    : allocate_(std::move(allocate)), slots_([slot_bytes, slots] {
        return std::make_unique<std::shared_ptr<Slots>>(std::make_shared<Slots>(slot_bytes, slots));
      }) {}

std::shared_ptr<uint8_t> Ring::take(int64_t bytes) {
  std::shared_ptr<Slots> slots = slots_.get();
  std::unique_ptr<Slots::Slot> slot = slots->take(bytes);
  if (!slot->memory) {
    try {
      slot->memory = allocate_(slot->bytes);
    } catch (...) {
      slots->release(std::move(slot));
      throw;
    }
  }
  uint8_t* data = slot->memory.get();
  // In a forked child, the slot is leaked: the lock may be held forever, and only the process that pinned memory may
  // free it.
  return {data, [slots = std::move(slots), taken = slot.release()](uint8_t*) noexcept {
            if (slots->in_this_process()) slots->release(std::unique_ptr<Slots::Slot>(taken));
          }};
}

Ring::Stats Ring::stats() const { return slots_.get()->stats(); }

void Ring::trim() { slots_.get()->trim(); }

}  // namespace lds
