#include "common/fork_local.h"

#include <pthread.h>
#include <unistd.h>

namespace lds {
namespace {

std::atomic<uint64_t> forks{0};  // from the process that loaded the core down to this one
const bool counted = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); }) == 0;

}  // namespace

uint64_t fork_generation() noexcept {
  // if pthread_atfork failed for lack of memory, the pid must do
  return counted ? forks.load(std::memory_order_relaxed) : static_cast<uint64_t>(getpid());
}

}  // namespace lds
