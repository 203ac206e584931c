#include "packing/row_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>

#include "common/error.h"

namespace lds {
namespace {

constexpr int64_t kPiece = int64_t{4} * 1024 * 1024;

void read_back(int descriptor, uint8_t* data, int64_t bytes, int64_t offset) {
  while (bytes > 0) {
    const ssize_t got = pread(descriptor, data, static_cast<size_t>(bytes), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw Error(Reason::io, "can't read back rows that were just written");
    data += got;
    bytes -= got;
    offset += got;
  }
}

}  // namespace

void write_exactly(int descriptor, const uint8_t* data, int64_t bytes, int64_t offset) {
  while (bytes > 0) {
    const ssize_t put = pwrite(descriptor, data, static_cast<size_t>(bytes), offset);
    if (put < 0) {
      if (errno == EINTR) continue;
      const bool full = errno == ENOSPC || errno == EDQUOT;
      throw Error(Reason::io, full ? std::string("the disk is full: make room and pack again")
                                   : "can't write rows: " + std::generic_category().message(errno));
    }
    data += put;
    bytes -= put;
    offset += put;
  }
}

void close_gaps(int descriptor, int64_t offset, int64_t row_bytes, const std::vector<int64_t>& kept) {
  const auto n = static_cast<int64_t>(kept.size());
  const int64_t most = std::max<int64_t>(1, kPiece / row_bytes);
  std::vector<uint8_t> buffer;
  for (int64_t to = 0; to < n;) {
    const int64_t from = kept[static_cast<size_t>(to)];
    int64_t run = 1;
    while (to + run < n && kept[static_cast<size_t>(to + run)] == from + run) ++run;
    for (int64_t low = 0; from != to && low < run; low += most) {
      const int64_t bytes = std::min(most, run - low) * row_bytes;
      buffer.resize(static_cast<size_t>(bytes));
      read_back(descriptor, buffer.data(), bytes, offset + (from + low) * row_bytes);
      write_exactly(descriptor, buffer.data(), bytes, offset + (to + low) * row_bytes);
    }
    to += run;
  }
}

void begin_write_back(int descriptor, int64_t offset, int64_t bytes) noexcept {
#if defined(__linux__)
  static_cast<void>(sync_file_range(descriptor, offset, bytes, SYNC_FILE_RANGE_WRITE));
#else
  static_cast<void>(descriptor), static_cast<void>(offset), static_cast<void>(bytes);
#endif
}

}  // namespace lds
