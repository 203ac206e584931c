#include "failing_malloc.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <new>

// The functions to forward to: those of a sanitizer, or of the C library.
#if defined(SANITIZED)
#define REAL(function) __interceptor_##function
#else
#define REAL(function) __libc_##function
#endif

extern "C" {
void* REAL(malloc)(size_t);
void* REAL(calloc)(size_t, size_t);
void* REAL(realloc)(void*, size_t);
}

namespace {

// Allocations until the one that fails; negative: none will fail.
thread_local int countdown = -1;
std::atomic<int> shared_countdown{-1};

bool fails() {
  const bool now = countdown >= 0 && countdown-- == 0;
  if (now) errno = ENOMEM;
  return now;
}

bool fails_on_any_thread() { return shared_countdown.load(std::memory_order_relaxed) >= 0 && shared_countdown-- == 0; }

}  // namespace

FailingMalloc::FailingMalloc(int nth, Threads threads) {
  if (threads == Threads::all) {
    shared_countdown = nth;
  } else {
    countdown = nth;
  }
}

FailingMalloc::~FailingMalloc() {
  countdown = -1;
  shared_countdown = -1;
}

bool FailingMalloc::failed() const { return countdown < 0 && shared_countdown.load() < 0; }

// Symbols of the program take precedence over those of the libraries.
extern "C" {
void* malloc(size_t bytes) { return fails() ? nullptr : REAL(malloc)(bytes); }
void* calloc(size_t n, size_t bytes) { return fails() ? nullptr : REAL(calloc)(n, bytes); }
void* realloc(void* memory, size_t bytes) { return fails() ? nullptr : REAL(realloc)(memory, bytes); }
}

void* operator new(size_t bytes) {
  if (fails_on_any_thread()) throw std::bad_alloc();
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}

void* operator new(size_t bytes, std::align_val_t alignment) {
  if (fails() || fails_on_any_thread()) throw std::bad_alloc();
  const auto multiple = static_cast<size_t>(alignment);
  if (void* memory = std::aligned_alloc(multiple, (bytes + multiple - 1) / multiple * multiple)) return memory;
  throw std::bad_alloc();
}

void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
