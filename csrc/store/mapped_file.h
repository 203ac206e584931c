// A file that is mapped read-only, and unmapped by the destructor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace lds {

class MappedFile {
 public:
  // Maps the whole file. Error(Reason::store) if it has fewer than `at_least` bytes.
  MappedFile(const std::string& path, int64_t at_least);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const noexcept { return data_; }
  int64_t size() const noexcept { return size_; }

  // Whether the page at this offset is in memory. False if the kernel does not provide the information.
  bool resident(int64_t offset) const noexcept;

  // Whether resident() has no side effect, so that every row can be probed. Otherwise it may start to read the page.
  bool probes_without_reading() const noexcept { return mincore_works_; }

  // Asks the kernel to read [offset, offset + bytes). Does not block.
  void will_need(int64_t offset, int64_t bytes) const noexcept;

 private:
  class Probe;

  const uint8_t* data_ = nullptr;
  int64_t size_ = 0;
  bool mincore_works_ = true;
  std::unique_ptr<Probe> probe_;  // if mincore does not work
};

}  // namespace lds
