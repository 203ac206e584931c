// File access for the core: opening, reading and writing with errors that name the path.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "common/error.h"

namespace lds {

// The text of an errno. std::strerror is not thread-safe.
std::string errno_text(int code);

// Error(Reason::io): "<what>: <errno_text(code)>".
Error system_error(const std::string& what, int code = errno);

struct FileStatus {
  int64_t size = 0;
  bool regular = false;  // false for a folder, a pipe or a device
  uid_t owner = 0;
};

// The status of a file by its path. Error(reason) when the file does not exist or is not accessible.
FileStatus file_status(const std::string& path, Reason reason = Reason::io);

// An open file, closed by the destructor.
class File {
 public:
  enum class Access : uint8_t { read, create };  // create: read and write; the file is created if it is missing

  // Opens without blocking, even if the path is a pipe. Error(Reason::io) names the path.
  explicit File(const std::string& path, Access access = Access::read);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int descriptor() const noexcept { return descriptor_; }
  FileStatus status() const;

  // Reads exactly `bytes` at `offset`. Error(when_short) if the file ends earlier.
  void read_exactly(uint8_t* out, int64_t bytes, int64_t offset, Reason when_short = Reason::store) const;

 private:
  std::string path_;
  int descriptor_;
};

// The functions below take descriptors that the caller owns.

// Reads `bytes` at `offset`, or fewer if the file ends earlier, and returns how many were read. Errors contain `name`.
int64_t read_up_to(int descriptor, uint8_t* out, int64_t bytes, int64_t offset, const std::string& name);

// Writes all bytes. Error(Reason::io) with the cause; a full disk has a message of its own.
void write_exactly(int descriptor, const uint8_t* data, int64_t bytes, int64_t offset);

// Allocates all blocks of a file of `bytes` bytes, creating it if it is missing. A full disk is then an error here, and
// not a SIGBUS when a mapping of the file is written to. Error(Reason::io) names the path and the size.
void reserve_file(const std::string& path, int64_t bytes);

// Starts writing these bytes to disk, so that a later fsync has less to wait for.
void begin_write_back(int descriptor, int64_t offset, int64_t bytes) noexcept;

}  // namespace lds
