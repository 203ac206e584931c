// Makes an allocation fail, to see that a lack of memory leaves nothing half changed: ours (`operator new`), and those
// of libjpeg, libpng and libwebp.
#pragma once

// While one of these lives, allocation number `nth` (from 0) fails, once: of this thread, or of all threads together.
// Of all threads only `operator new` counts: the sanitizers do not bear a thread that can't allocate as it starts.
class FailingMalloc {
 public:
  enum class Threads { this_one, all };
  explicit FailingMalloc(int nth, Threads threads = Threads::this_one);
  ~FailingMalloc();
  FailingMalloc(const FailingMalloc&) = delete;
  FailingMalloc& operator=(const FailingMalloc&) = delete;

  bool failed() const;  // whether there were so many allocations
};
