// A file mapped read-only, unmapped when the object goes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lds {

// An open file descriptor, closed when the object goes.
class FileHandle {
 public:
  // Opens for reading. Error(Reason::io) naming the path.
  explicit FileHandle(const std::string& path);
  ~FileHandle();
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;

  int descriptor() const noexcept { return descriptor_; }
  int64_t size() const;

  // Reads exactly `bytes` at `offset`; Error(Reason::store) when the file ends before.
  void read_exactly(uint8_t* out, int64_t bytes, int64_t offset) const;

 private:
  std::string path_;
  int descriptor_;
};

class MappedFile {
 public:
  // Maps the whole file; its size is checked against `at_least` bytes first (Error(Reason::store)).
  MappedFile(const std::string& path, int64_t at_least);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const noexcept { return data_; }
  int64_t size() const noexcept { return size_; }

  // Whether the page that holds this byte is in memory; true where the kernel won't say.
  bool resident(int64_t offset) const noexcept;

  // Asks the kernel to read [offset, offset + bytes) soon. Does not wait for it.
  void will_need(int64_t offset, int64_t bytes) const noexcept;

 private:
  const uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace lds
