// The rows of all shards of one array (images, or one field) as one sequence of fixed-size rows.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/fork_local.h"
#include "store/mapped_file.h"
#include "store/row_source.h"

namespace lds {

struct ShardFile {
  std::string path;
  int64_t offset = 0;  // bytes before the first row
  int64_t rows = 0;
};

// Shards are mapped read-only when first touched, so that opening costs nothing per row.
// Safe to use from several threads, and in a forked child.
class FixedRows : public RowSource {
 public:
  // Checks every file's size now: Error(Reason::store) naming the file when one is short.
  FixedRows(std::vector<ShardFile> shards, int64_t row_bytes);
  ~FixedRows() override;

  int64_t size() const noexcept override { return size_; }
  int64_t row_bytes() const noexcept { return row_bytes_; }

  Extent row(int64_t index) const override;
  int64_t will_need(const int64_t* indices, int64_t n) const noexcept override;
  bool resident(int64_t index) const noexcept override;  // looks at the row's middle

  // Reads rows with pread into `out` (n * row_bytes), for cold data and for a clear error when a
  // file was cut while open.
  void read(const int64_t* indices, int64_t n, uint8_t* out) const;

 private:
  struct Shard {
    ShardFile file;
    int64_t start = 0;                                // index of its first row
    mutable std::atomic<const MappedFile*> mapped{};  // set once, under the mutex; read without it
  };
  const Shard& shard_of(int64_t index) const;
  const MappedFile& map(const Shard& shard) const;
  int64_t offset_in(const Shard& shard, int64_t index) const noexcept {
    return shard.file.offset + (index - shard.start) * row_bytes_;
  }
  // The byte of a row to probe: the first and the last page may be in memory because of a neighbouring row.
  int64_t middle_of(int64_t offset) const noexcept { return offset + row_bytes_ / 2; }

  int64_t row_bytes_;
  int64_t size_ = 0;
  int64_t even_rows_ = 0;  // rows of every shard but the last, when they are equal; else 0
  std::vector<std::unique_ptr<Shard>> shards_;
  ForkLocal<std::mutex> mapping_;
};

}  // namespace lds
