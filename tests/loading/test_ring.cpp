// Tests Ring: when slots are reused, allocated and freed.
#include <doctest/doctest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "common/error.h"
#include "failing_malloc.h"
#include "loading/ring.h"

using lds::Ring;
using Slot = std::shared_ptr<uint8_t>;

TEST_CASE("a slot is reused only when nothing holds it any more") {
  Ring ring(1000, 2);
  Slot first = ring.take(1000);
  const Slot second = ring.take(10);
  CHECK(first.get() != second.get());
  const Slot view = first;
  uint8_t* address = first.get();
  first.reset();
  const Slot third = ring.take(1000);
  CHECK(third.get() != address);  // `view` still holds it
  CHECK(ring.stats().in_use == 3);
}

TEST_CASE("nothing is allocated in the steady state") {
  Ring ring(1 << 16, 3);
  for (int i = 0; i < 500; ++i) {
    const Slot a = ring.take(1 << 16);
    const Slot b = ring.take(100);
    std::memset(a.get(), i, 1 << 16);
  }
  CHECK(ring.stats().allocations == 2);
}

TEST_CASE("the ring grows while many slots are held, and shrinks afterwards") {
  Ring ring(100, 2);
  for (int round = 0; round < 3; ++round) {
    std::vector<Slot> held;
    for (int i = 0; i < 10; ++i) held.push_back(ring.take(100));
  }
  CHECK(ring.stats().slots == 10);
  CHECK(ring.stats().allocations == 10);  // ten slots that are held in each round are allocated once
  for (int i = 0; i < 200; ++i) ring.take(100);
  std::vector<Slot> held;
  for (int i = 0; i < 10; ++i) held.push_back(ring.take(100));
  for (int i = 0; i < 200; ++i) held.push_back(ring.take(100)), held.pop_back();
  held.clear();
  for (int i = 0; i < 200; ++i) ring.take(100);
  ring.trim();
  CHECK(ring.stats().slots == 0);
}

TEST_CASE("a larger batch replaces the slots") {
  Ring ring(0, 2);
  ring.take(100);
  Slot large = ring.take(1 << 20);
  std::memset(large.get(), 1, 1 << 20);
  large.reset();
  CHECK(ring.stats().slots == 1);
  CHECK(ring.stats().slot_bytes == 1 << 20);
}

TEST_CASE("slots outlive the ring") {
  Slot slot;
  {
    Ring ring(100, 1);
    slot = ring.take(100);
  }
  std::memset(slot.get(), 7, 100);
}

TEST_CASE("a failed allocation is an error, and no slot is in use afterwards") {
  Ring ring(1, 1, [](int64_t) -> Slot { throw lds::Error(lds::Reason::io, "no memory"); });
  CHECK_THROWS_AS(ring.take(1), lds::Error);
  CHECK(ring.stats().in_use == 0);
  CHECK_THROWS_AS(lds::page_memory(int64_t{1} << 60), lds::Error);
}

TEST_CASE("if memory runs out, take fails or its slot returns to the ring") {
  bool failed = true;
  for (int nth = 0; failed; ++nth) {
    Ring ring(100, 4);
    std::vector<Slot> held;
    held.reserve(4);
    for (int i = 0; i < 3; ++i) held.push_back(ring.take(100));
    {
      const FailingMalloc memory(nth);
      try {
        held.push_back(ring.take(100));
        held.clear();  // returns the slots without an allocation
      } catch (const std::bad_alloc&) {
        CHECK(memory.failed());
      }
      failed = memory.failed();
    }
    held.clear();
    CHECK(ring.stats().in_use == 0);
    ring.take(100);
  }
}

TEST_CASE("several threads take and return slots concurrently") {
  Ring ring(4096, 2);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        const Slot slot = ring.take(4096);
        std::memset(slot.get(), t, 4096);
        for (int at = 0; at < 4096; at += 512) wrong += slot.get()[at] != t;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(ring.stats().in_use == 0);
}
