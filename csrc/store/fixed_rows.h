// Presents the rows of all shards of one array (the images, or one field) as one sequence of rows of equal size.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/fork_local.h"
#include "store/mapped_file.h"
#include "store/row_source.h"
#include "store/shard_index.h"

namespace lds {

struct ShardFile {
  std::string path;
  int64_t offset = 0;  // of the first row, in bytes
  int64_t rows = 0;
};

// A shard is mapped read-only when one of its rows is first used. Thread-safe, also in a forked child.
class FixedRows : public RowSource {
 public:
  // Checks the size of every file that is present. Error(Reason::store) names a file that is too short.
  FixedRows(std::vector<ShardFile> shards, int64_t row_bytes, Files files = Files::present);
  ~FixedRows() override;
  FixedRows(const FixedRows&) = delete;
  FixedRows& operator=(const FixedRows&) = delete;

  int64_t size() const noexcept override { return index_.size(); }
  int64_t row_bytes() const noexcept { return row_bytes_; }

  Extent row(int64_t index) const override;
  std::string describe(int64_t index) const override;
  int64_t will_need(const int64_t* indices, int64_t n) const noexcept override;
  void release(int64_t index) const noexcept override;
  bool resident(int64_t index) const noexcept override;  // checks the page in the middle of the row

  // The memory in which each file is mapped, up to the end of its rows, in bytes: all files are mapped.
  std::vector<std::pair<const uint8_t*, int64_t>> mapped() const;

  // Copies a value of a field into `out`.
  void copy(int64_t index, uint8_t* out) const;

  // Reads n rows into `out` with pread, for rows that are not in the page cache. If a file was truncated while it is
  // open, this is an error and not a SIGBUS.
  void read(const int64_t* indices, int64_t n, uint8_t* out) const;

 private:
  // Changes the value of a row, which was copied from its file; row() gives it as it is there.
  virtual void convert(int64_t /*index*/, uint8_t* /*value*/) const {}

  struct Shard {
    ShardFile file;
    mutable std::atomic<const MappedFile*> mapped{};  // set with the mutex locked; read without locking
  };
  struct Located {
    const Shard& shard;
    int64_t offset;  // of the row, in the file
  };
  Located locate(int64_t index) const;
  const MappedFile& map(const Shard& shard) const;
  // The byte of a row to probe: a neighbouring row may have loaded the first or the last page.
  int64_t middle_of(int64_t offset) const noexcept { return offset + row_bytes_ / 2; }

  const int64_t row_bytes_;
  std::vector<std::unique_ptr<Shard>> shards_;
  ShardIndex index_;
  ForkLocal<std::mutex> mapping_;
};

}  // namespace lds
