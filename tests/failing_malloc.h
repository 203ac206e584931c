// Makes `operator new` fail, to see that a lack of memory leaves nothing half changed.
#pragma once

// While one of these lives, this thread's allocation number `nth` (from 0) throws std::bad_alloc, once.
class FailingNew {
 public:
  explicit FailingNew(int nth);
  ~FailingNew();
  FailingNew(const FailingNew&) = delete;
  FailingNew& operator=(const FailingNew&) = delete;

  bool failed() const;  // whether there were so many allocations
};
