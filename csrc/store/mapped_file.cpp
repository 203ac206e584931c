#include "store/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/error.h"

namespace lds {
namespace {

Error system_error(const std::string& what, const std::string& path) {
  return {Reason::io, what + " " + path + ": " + std::strerror(errno)};
}

}  // namespace

FileHandle::FileHandle(const std::string& path) : path_(path), descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) throw system_error("can't open", path);
}

FileHandle::~FileHandle() { close(descriptor_); }

int64_t FileHandle::size() const {
  struct stat status{};
  if (fstat(descriptor_, &status) != 0) throw system_error("can't look at", path_);
  return status.st_size;
}

void FileHandle::read_exactly(uint8_t* out, int64_t bytes, int64_t offset) const {
  while (bytes > 0) {
    const ssize_t got = pread(descriptor_, out, static_cast<size_t>(bytes), offset);
    if (got < 0) {
      if (errno == EINTR) continue;
      throw system_error("can't read", path_);
    }
    if (got == 0) {
      throw Error(Reason::store, path_ + " ends at byte " + std::to_string(offset) + ", expected " +
                                     std::to_string(bytes) + " more: it was cut off while open");
    }
    out += got;
    bytes -= got;
    offset += got;
  }
}

MappedFile::MappedFile(const std::string& path, int64_t at_least) {
  const FileHandle file(path);
  size_ = file.size();
  if (size_ < at_least) {
    throw Error(Reason::store, path + " is short: expected at least " + std::to_string(at_least) + " bytes, found " +
                                   std::to_string(size_));
  }
  if (size_ == 0) return;
  void* address = mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (address == MAP_FAILED) throw system_error("can't map", path);
  data_ = static_cast<const uint8_t*>(address);
  // Rows are asked for one by one, with will_need(). What the kernel would guess around a fault is read in vain, and
  // where memory is short it drives out the rows that were asked for.
  madvise(address, static_cast<size_t>(size_), MADV_RANDOM);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), static_cast<size_t>(size_));
}

bool MappedFile::resident(int64_t offset) const noexcept {
  static const int64_t page = sysconf(_SC_PAGESIZE);
  if (data_ == nullptr || offset < 0 || offset >= size_) return true;
  unsigned char found = 1;
  if (mincore(const_cast<uint8_t*>(data_) + offset / page * page, 1, &found) != 0) return true;
  return (found & 1U) != 0;
}

void MappedFile::will_need(int64_t offset, int64_t bytes) const noexcept {
  static const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t begin = offset / page * page;
  const int64_t end = std::min(offset + bytes, size_);
  if (data_ != nullptr && begin < end) {
    madvise(const_cast<uint8_t*>(data_) + begin, static_cast<size_t>(end - begin), MADV_WILLNEED);
  }
}

}  // namespace lds
