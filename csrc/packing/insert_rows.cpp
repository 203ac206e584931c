#include "packing/insert_rows.h"

#include <algorithm>
#include <string>

#include "common/error.h"
#include "common/file.h"

namespace lds {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;

// Copies the bytes that end at `from_end` to those that end at `to_end`, the last ones first: within one file, they may
// overlap if they move towards its end.
void copy_back(int from, int64_t from_end, int to, int64_t to_end, int64_t bytes, std::vector<uint8_t>& buffer) {
  for (int64_t left = bytes; left > 0;) {
    const int64_t piece = std::min(left, kPieceBytes);
    buffer.resize(static_cast<size_t>(piece));
    const int64_t begin = from_end - (bytes - left) - piece;
    if (read_up_to(from, buffer.data(), piece, begin, "rows that were just written") < piece) {
      throw Error(Reason::io, "can't read back rows that were just written: the file became shorter");
    }
    write_exactly(to, buffer.data(), piece, to_end - (bytes - left) - piece);
    left -= piece;
  }
}

}  // namespace

void insert_rows(int descriptor, int64_t offset, const std::vector<int64_t>& lengths,
                 const std::vector<uint8_t>& inserted, int source) {
  if (lengths.size() != inserted.size()) {
    throw Error(Reason::value, "expected as many lengths as flags, found " + std::to_string(lengths.size()) + " and " +
                                   std::to_string(inserted.size()));
  }
  int64_t ends[2] = {offset, 0};  // of the rows that are not in their places yet, in the file and in the source
  for (size_t i = 0; i < lengths.size(); ++i) ends[inserted[i] != 0 ? 1 : 0] += lengths[i];
  int64_t to = ends[0] + ends[1];
  std::vector<uint8_t> buffer;
  for (size_t i = lengths.size(); i > 0 && ends[1] > 0;) {
    const bool is_inserted = inserted[i - 1] != 0;
    int64_t run = 0;
    for (; i > 0 && (inserted[i - 1] != 0) == is_inserted; --i) run += lengths[i - 1];
    int64_t& end = ends[is_inserted ? 1 : 0];
    copy_back(is_inserted ? source : descriptor, end, descriptor, to, run, buffer);
    end -= run;
    to -= run;
  }
}

}  // namespace lds
