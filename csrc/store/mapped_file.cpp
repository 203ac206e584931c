#include "store/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "common/file.h"

namespace lds {

namespace {

// The most files that one process keeps open for probes; the usual limit is 1,024 descriptors.
constexpr int kMaxProbes = 256;

// Since Linux 5.2, mincore reports every page as in memory to readers who neither own the file nor may write to it.
bool mincore_works(const std::string& path, uid_t owner) noexcept {
  return owner == geteuid() || faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0;
}

// Some file systems (FUSE with direct_io) only support private mappings. For reading, both kinds are the same.
void* map(int descriptor, int64_t size) noexcept {
  const auto bytes = static_cast<size_t>(size);
  void* address = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  if (address == MAP_FAILED && errno == ENODEV) {
    address = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
  }
  return address;
}

}  // namespace

// Probes whether a page is in memory by a read that does not wait. If it is not, the kernel starts to read the page.
class MappedFile::Probe {
 public:
  // Takes over the file. Returns nullptr, and leaves the file, if too many are open already.
  static std::unique_ptr<Probe> of(std::unique_ptr<File>& file) {
    auto probe = std::unique_ptr<Probe>(new Probe);  // counted
    if (count().load() <= kMaxProbes) {
      probe->file_ = std::move(file);
      posix_fadvise(probe->file_->descriptor(), 0, 0, POSIX_FADV_RANDOM);  // a probe reads no more than its page
      return probe;
    }
    return nullptr;
  }
  ~Probe() { count().fetch_sub(1); }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  bool resident(int64_t offset) const noexcept {
    char byte = 0;
    const iovec one{&byte, 1};
    return preadv2(file_->descriptor(), &one, 1, offset, RWF_NOWAIT) == 1;
  }

 private:
  Probe() noexcept { count().fetch_add(1); }
  static std::atomic<int>& count() noexcept {
    static std::atomic<int> open{0};
    return open;
  }

  std::unique_ptr<File> file_;
};

MappedFile::MappedFile(const std::string& path, int64_t at_least) {
  auto file = std::make_unique<File>(path);
  const int descriptor = file->descriptor();
  const FileStatus status = file->status();
  size_ = status.size;
  if (size_ < at_least) {
    throw Error(Reason::store, path + " is short: expected at least " + std::to_string(at_least) + " bytes, found " +
                                   std::to_string(size_));
  }
  if (size_ == 0) return;
  mincore_works_ = mincore_works(path, status.owner);
  if (!mincore_works_) probe_ = Probe::of(file);
  void* address = map(descriptor, size_);
  if (address == MAP_FAILED && errno == ENODEV) {
    throw Error(Reason::io, "can't map " + path +
                                ": its file system does not support mmap. Copy the store to another file system.");
  }
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
  if (!mincore_works_) return probe_ && probe_->resident(offset);
  unsigned char found = 0;
  if (mincore(const_cast<uint8_t*>(data_) + offset / page * page, 1, &found) != 0) return false;
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
