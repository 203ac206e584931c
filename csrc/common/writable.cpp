#include "common/writable.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace lds {
namespace {

// The kernel atomically ORs 0 to the word around the byte, and says EFAULT where this process could not have done so.
// A word at a multiple of its size lies within one page. Any other error says nothing about the memory.
bool may_write(uint8_t* byte) noexcept {
  uint8_t* word = byte - reinterpret_cast<uintptr_t>(byte) % sizeof(uint32_t);
  const int or_zero = FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0);
  const long woken = syscall(SYS_futex, word, FUTEX_WAKE_OP_PRIVATE, 0, nullptr, word, or_zero);
  return woken >= 0 || errno != EFAULT;
}

}  // namespace

bool is_writable(uint8_t* data, int64_t bytes) noexcept {
  return bytes < 1 || (may_write(data) && may_write(data + bytes - 1));
}

}  // namespace lds
