#include "common/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <system_error>

namespace lds {

std::string errno_text(int code) { return std::generic_category().message(code); }

Error system_error(const std::string& what, int code) { return {Reason::io, what + ": " + errno_text(code)}; }

FileStatus file_status(const std::string& path, Reason reason) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) throw Error(reason, "can't open " + path + ": " + errno_text(errno));
  return {status.st_size, S_ISREG(status.st_mode), status.st_uid};
}

File::File(const std::string& path, Access access)
    : path_(path),
      descriptor_(
          open(path.c_str(), (access == Access::read ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC | O_NONBLOCK, 0666)) {
  if (descriptor_ < 0)
    throw system_error(access == Access::read ? "can't read '" + path + "'" : "can't create " + path);
}

File::~File() { close(descriptor_); }

FileStatus File::status() const {
  struct stat status{};
  if (fstat(descriptor_, &status) != 0) throw system_error("can't read '" + path_ + "'");
  return {status.st_size, S_ISREG(status.st_mode), status.st_uid};
}

void File::read_exactly(uint8_t* out, int64_t bytes, int64_t offset, Reason when_short) const {
  const int64_t found = read_up_to(descriptor_, out, bytes, offset, path_);
  if (found == bytes) return;
  throw Error(when_short, path_ + " ends at byte " + std::to_string(offset + found) + ", expected " +
                              std::to_string(bytes - found) + " more bytes: it was cut off while open");
}

int64_t read_up_to(int descriptor, uint8_t* out, int64_t bytes, int64_t offset, const std::string& name) {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t count = pread(descriptor, out + done, static_cast<size_t>(bytes - done), offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error("can't read '" + name + "'");
    if (count == 0) break;
    done += count;
  }
  return done;
}

void write_exactly(int descriptor, const uint8_t* data, int64_t bytes, int64_t offset) {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t count = pwrite(descriptor, data + done, static_cast<size_t>(bytes - done), offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == ENOSPC || errno == EDQUOT)) {
      throw Error(Reason::io, "the disk is full: make room and pack again");
    }
    if (count < 0) throw system_error("can't write rows");
    done += count;
  }
}

void reserve_file(const std::string& path, int64_t bytes) {
  if (bytes < 0) throw Error(Reason::value, "bytes must not be negative, found " + std::to_string(bytes));
  const File file(path, File::Access::create);
  int error = 0;
  do {
    error = bytes == 0 ? 0 : posix_fallocate(file.descriptor(), 0, bytes);
  } while (error == EINTR);
  if (error != 0) throw system_error("can't reserve " + std::to_string(bytes) + " bytes for " + path, error);
}

void begin_write_back(int descriptor, int64_t offset, int64_t bytes) noexcept {
#if defined(__linux__)
  static_cast<void>(sync_file_range(descriptor, offset, bytes, SYNC_FILE_RANGE_WRITE));
#else
  static_cast<void>(descriptor), static_cast<void>(offset), static_cast<void>(bytes);
#endif
}

}  // namespace lds
