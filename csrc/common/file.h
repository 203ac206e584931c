// The one place where the core opens, reads and writes files.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "common/error.h"

namespace lds {

// What an errno means. std::strerror would not be safe from several threads.
std::string errno_text(int code);

// Error(Reason::io): "<what>: <errno_text(code)>".
Error system_error(const std::string& what, int code = errno);

struct FileStatus {
  int64_t size = 0;
  bool regular = false;  // not a folder, a pipe, a device
  uid_t owner = 0;
};

// Of a file that need not be open. Error(reason) when there is none.
FileStatus file_status(const std::string& path, Reason reason = Reason::io);

// An open file, closed when the object goes.
class File {
 public:
  enum class Access : uint8_t { read, create };  // create: for writing too, made when missing

  // A pipe does not block. Error(Reason::io) naming the path.
  explicit File(const std::string& path, Access access = Access::read);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int descriptor() const noexcept { return descriptor_; }
  FileStatus status() const;

  // Reads exactly `bytes` at `offset`; Error(when_short) when the file ends before.
  void read_exactly(uint8_t* out, int64_t bytes, int64_t offset, Reason when_short = Reason::store) const;

 private:
  std::string path_;
  int descriptor_;
};

// For descriptors that the caller owns.

// Reads `bytes` at `offset`, fewer only where the file ends, and returns how many. `name` stands in the error.
int64_t read_up_to(int descriptor, uint8_t* out, int64_t bytes, int64_t offset, const std::string& name);

// Writes all of it. Error(Reason::io) says why it can't; a full disk is named as such.
void write_exactly(int descriptor, const uint8_t* data, int64_t bytes, int64_t offset);

// Makes the file (created when missing) `bytes` long with all its blocks allocated, so that a full disk is an error now
// and not a signal when a mapping of it is written to. Error(Reason::io) naming path and size when there is no room.
void reserve_file(const std::string& path, int64_t bytes);

// Starts writing these bytes to disk, so that a sync at the end has little left to wait for.
void begin_write_back(int descriptor, int64_t offset, int64_t bytes) noexcept;

}  // namespace lds
