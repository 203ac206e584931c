#include "store/shard_index.h"

#include <algorithm>

#include "common/error.h"

namespace lds {

ShardIndex::ShardIndex(const std::vector<int64_t>& rows) : starts_{0} {
  starts_.reserve(rows.size() + 1);
  even_rows_ = rows.empty() ? 0 : rows.front();
  for (size_t i = 0; i < rows.size(); ++i) {
    const bool last = i + 1 == rows.size();
    if (last ? rows[i] > even_rows_ : rows[i] != even_rows_) even_rows_ = 0;
    starts_.push_back(starts_.back() + rows[i]);
  }
}

ShardIndex::Position ShardIndex::find(int64_t index) const {
  if (index < 0 || index >= size()) {
    throw Error(Reason::index, "row " + std::to_string(index) + " is outside the store's " + std::to_string(size()) +
                                   " rows; expected 0 to " + std::to_string(size() - 1));
  }
  size_t shard = 0;
  if (even_rows_ > 0) {
    shard = static_cast<size_t>(index / even_rows_);
  } else {
    shard = static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), index) - starts_.begin()) - 1;
  }
  return {shard, index - starts_[shard]};
}

std::string row_name(const std::string& path, int64_t row, int64_t index) {
  return path + ", row " + std::to_string(row) +
         (row == index ? "" : " (row " + std::to_string(index) + " of the store)");
}

}  // namespace lds
