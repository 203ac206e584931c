// A file mapped read-only, unmapped when the object goes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace lds {

class MappedFile {
 public:
  // Maps the whole file. Error(Reason::store) when it is shorter than `at_least` bytes.
  MappedFile(const std::string& path, int64_t at_least);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const noexcept { return data_; }
  int64_t size() const noexcept { return size_; }

  // Whether the page that holds this byte is in memory; false where the kernel does not tell, true outside of the file.
  bool resident(int64_t offset) const noexcept;

  // Whether resident() costs nothing but the look at one page: then each row may be probed before it is requested.
  bool probes_without_reading() const noexcept { return mincore_tells_; }

  // Asks the kernel to read [offset, offset + bytes) soon, without waiting for it.
  void will_need(int64_t offset, int64_t bytes) const noexcept;

 private:
  class Probe;

  const uint8_t* data_ = nullptr;
  int64_t size_ = 0;
  bool mincore_tells_ = true;
  std::unique_ptr<Probe> probe_;  // of a file of which mincore tells nothing
};

}  // namespace lds
