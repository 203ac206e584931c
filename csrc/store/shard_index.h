// Finds the shard of a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lds {

// Immutable and thread-safe.
class ShardIndex {
 public:
  explicit ShardIndex(const std::vector<int64_t>& rows);  // of each shard, 0 or more

  int64_t size() const noexcept { return starts_.back(); }

  struct Position {
    size_t shard;
    int64_t row;  // in the shard
  };
  Position find(int64_t index) const;  // Error(Reason::index) if the index is outside [0, size())

 private:
  std::vector<int64_t> starts_;  // the first row of each shard, and the number of rows
  int64_t even_rows_ = 0;        // rows of each shard but the last, if they all have equally many; else 0
};

// "PATH, row 3 (row 10,003 of the store)", for messages.
std::string row_name(const std::string& path, int64_t row, int64_t index);

}  // namespace lds
