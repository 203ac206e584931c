// Helpers for the targets that fuzz the files of a store: files in memory, and numbers of any size.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "fuzz_common.h"

namespace fuzz {

inline void expect(bool right) {
  if (!right) std::abort();
}

inline uint8_t byte_at(int64_t offset) { return static_cast<uint8_t>(offset % 251); }

inline std::vector<uint8_t> pattern(int64_t size) {
  std::vector<uint8_t> bytes(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) bytes[static_cast<size_t>(i)] = byte_at(i);
  return bytes;
}

class MemoryFile {
 public:
  explicit MemoryFile(const std::vector<uint8_t>& bytes) : descriptor_(memfd_create("fuzz", 0)) {
    expect(write(descriptor_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

// Any number of 64 bits, or one that may be right.
inline int64_t number(Choices& choices, int below) {
  if (choices.next() % 4 != 0) return choices.below(below);
  uint64_t bits = 0;
  for (int i = 0; i < 8; ++i) bits = bits << 8 | static_cast<uint64_t>(choices.next());
  return static_cast<int64_t>(bits);
}

}  // namespace fuzz
