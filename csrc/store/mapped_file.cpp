#include "store/mapped_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "common/file.h"

namespace lds {

MappedFile::MappedFile(const std::string& path, int64_t at_least) {
  const File file(path);
  size_ = file.status().size;
  if (size_ < at_least) {
    throw Error(Reason::store, path + " is short: expected at least " + std::to_string(at_least) + " bytes, found " +
                                   std::to_string(size_));
  }
  if (size_ == 0) return;
  void* address = mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (address == MAP_FAILED) throw system_error("can't map " + path);
  data_ = static_cast<const uint8_t*>(address);
  // Rows are requested one by one, with will_need(). The kernel's default read-around wastes bandwidth and evicts rows
  // that were prefetched.
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
