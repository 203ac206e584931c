#include "store/label_rows.h"

#include <cstring>
#include <string>
#include <utility>

#include "common/error.h"

namespace lds {
namespace {

std::vector<int64_t> rows_of(const std::vector<Renumbering>& parts) {
  std::vector<int64_t> rows;
  rows.reserve(parts.size());
  for (const Renumbering& part : parts) rows.push_back(part.rows);
  return rows;
}

}  // namespace

LabelRows::LabelRows(std::vector<ShardFile> shards, int64_t row_bytes, bool is_signed, std::vector<Renumbering> parts,
                     Files files)
    : FixedRows(std::move(shards), row_bytes, files),
      signed_(is_signed),
      parts_(std::move(parts)),
      part_of_(rows_of(parts_)) {
  if (row_bytes != 1 && row_bytes != 2 && row_bytes != 4 && row_bytes != 8) {
    throw Error(Reason::value, "labels are integers of 1, 2, 4 or 8 bytes, found " + std::to_string(row_bytes));
  }
  if (part_of_.size() != size()) {
    throw Error(Reason::value, "the parts have " + std::to_string(part_of_.size()) + " labels, and the files " +
                                   std::to_string(size()));
  }
}

void LabelRows::convert(int64_t index, uint8_t* value) const {
  const std::vector<int64_t>& numbers = parts_[part_of_.find(index).shard].numbers;
  if (numbers.empty()) return;
  const auto bytes = static_cast<size_t>(row_bytes());
  uint64_t label = 0;
  std::memcpy(&label, value, bytes);
  if (signed_ && (value[bytes - 1] & 0x80U) != 0) return;
  if (label >= numbers.size()) {
    throw Error(Reason::store, describe(index) + ": label " + std::to_string(label) + " is no number of its " +
                                   std::to_string(numbers.size()) + " classes");
  }
  std::memcpy(value, &numbers[label], bytes);
}

}  // namespace lds
