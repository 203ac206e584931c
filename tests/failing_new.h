// Makes `operator new` fail, to test that code remains consistent when memory runs out.
#pragma once

// During the lifetime of this object, allocation number `nth` (from 0) of this thread throws std::bad_alloc, once.
class FailingNew {
 public:
  explicit FailingNew(int nth);
  ~FailingNew();
  FailingNew(const FailingNew&) = delete;
  FailingNew& operator=(const FailingNew&) = delete;

  bool failed() const;  // whether the allocation has failed
};
