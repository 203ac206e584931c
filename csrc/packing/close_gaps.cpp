#include "packing/close_gaps.h"

#include <algorithm>
#include <string>

#include "common/file.h"

namespace lds {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} * 1024 * 1024;

void move_bytes(int descriptor, int64_t from, int64_t to, std::vector<uint8_t>& buffer) {
  const auto bytes = static_cast<int64_t>(buffer.size());
  if (read_up_to(descriptor, buffer.data(), bytes, from, "rows that were just written") < bytes) {
    throw Error(Reason::io, "can't read back rows that were just written: the file became shorter");
  }
  write_exactly(descriptor, buffer.data(), bytes, to);
}

}  // namespace

void close_gaps(int descriptor, int64_t offset, int64_t row_bytes, const std::vector<int64_t>& kept) {
  if (row_bytes < 1) throw Error(Reason::value, "row_bytes must be at least 1, found " + std::to_string(row_bytes));
  const auto n = static_cast<int64_t>(kept.size());
  const int64_t max_rows = std::max<int64_t>(1, kPieceBytes / row_bytes);
  std::vector<uint8_t> buffer;
  for (int64_t to = 0; to < n;) {
    const int64_t from = kept[static_cast<size_t>(to)];
    int64_t run = 1;
    while (to + run < n && kept[static_cast<size_t>(to + run)] == from + run) ++run;
    for (int64_t low = 0; from != to && low < run; low += max_rows) {
      buffer.resize(static_cast<size_t>(std::min(max_rows, run - low) * row_bytes));
      move_bytes(descriptor, offset + (from + low) * row_bytes, offset + (to + low) * row_bytes, buffer);
    }
    to += run;
  }
}

}  // namespace lds
