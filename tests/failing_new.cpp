#include "failing_new.h"

#include <cstdlib>
#include <new>

namespace {

thread_local int countdown = -1;  // -1: no allocation fails

}  // namespace

FailingNew::FailingNew(int nth) { countdown = nth; }
FailingNew::~FailingNew() { countdown = -1; }
bool FailingNew::failed() const { return countdown < 0; }

void* operator new(size_t bytes) {
  if (countdown >= 0 && countdown-- == 0) throw std::bad_alloc();
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
