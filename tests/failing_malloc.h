// Makes an allocation fail, to test that code remains consistent when memory runs out: the core's allocations, and
// those of libjpeg, libpng and libwebp.
#pragma once

// During the lifetime of this object, allocation number `nth` (from 0) fails, once: of this thread, or of all threads
// together. For all threads only `operator new` counts, because the sanitizers abort if a new thread can't allocate.
class FailingMalloc {
 public:
  enum class Threads { this_one, all };
  explicit FailingMalloc(int nth, Threads threads = Threads::this_one);
  ~FailingMalloc();
  FailingMalloc(const FailingMalloc&) = delete;
  FailingMalloc& operator=(const FailingMalloc&) = delete;

  bool failed() const;  // whether the allocation has failed
};
