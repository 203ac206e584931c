#include "codec/file_bytes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "common/error.h"

namespace lds {
namespace {

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(Reason::io, "can't read '" + path + "': " + what);
}
[[noreturn]] void fail(const std::string& path) { fail(path, std::generic_category().message(errno)); }

struct OpenFile {
  explicit OpenFile(int descriptor) noexcept : fd(descriptor) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (fd >= 0) ::close(fd);
  }

  const int fd;
};

}  // namespace

void FileBytes::read(const std::string& path) {
  size_ = 0;
  // O_NONBLOCK: a pipe in the place of an image must not stop us
  const OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) fail(path);
  struct stat status{};
  if (fstat(file.fd, &status) != 0) fail(path);
  if (!S_ISREG(status.st_mode)) fail(path, "not a regular file");
  const auto size = static_cast<size_t>(status.st_size);
  if (size > capacity_) {
    bytes_.reset();  // first give back the old buffer
    capacity_ = 0;
    bytes_.reset(new uint8_t[size]);  // left uninitialised on purpose
    capacity_ = size;
  }
  while (size_ < size) {
    const ssize_t got = ::read(file.fd, bytes_.get() + size_, size - size_);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path);
    if (got == 0) break;  // the file became shorter; the decoder will say so
    size_ += static_cast<size_t>(got);
  }
}

}  // namespace lds
