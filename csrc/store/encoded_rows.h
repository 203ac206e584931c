// Presents the JPEG files, or the PNG files of masks, in all shards of a store as one sequence of rows
// (docs/store-format.md, codec "jpeg").
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
#include "store/shard_index.h"

namespace lds {

struct EncodedShardFiles {
  std::string images;        // the files, one after another
  std::string offsets;       // uint64, rows + 1: row i is [offsets[i], offsets[i + 1]) of `images`
  std::string sizes;         // uint16, rows x 2: height and width as shown; empty if they are those of the files
  std::string orientations;  // uint8, rows; empty if every row is upright
  int64_t rows = 0;
  int64_t bytes = 0;  // of `images`
};

// A shard is mapped read-only when one of its rows is first used. Thread-safe, also in a forked child.
class EncodedRows : public RowSource {
 public:
  // The arrays begin at this byte of their files. Checks the size of every file that is present: Error(Reason::store)
  // names one that is too short. Offsets are checked when their row is used.
  EncodedRows(std::vector<EncodedShardFiles> shards, int64_t array_offset, Files files = Files::present);
  ~EncodedRows() override;
  EncodedRows(const EncodedRows&) = delete;
  EncodedRows& operator=(const EncodedRows&) = delete;

  int64_t size() const noexcept override { return index_.size(); }

  Extent row(int64_t index) const override;
  std::string describe(int64_t index) const override;
  int64_t will_need(const int64_t* indices, int64_t n) const noexcept override;
  void release(int64_t index) const noexcept override;
  bool resident(int64_t index) const noexcept override;  // checks the page in the middle of the row

  // The bytes of a row, read with pread: if a file was truncated while it is open, this is an error and not a SIGBUS.
  std::vector<uint8_t> read(int64_t index) const;

 private:
  struct Mapped;
  struct Shard;
  const Mapped& map(const Shard& shard) const;

  const int64_t array_offset_;
  std::vector<std::unique_ptr<Shard>> shards_;
  ShardIndex index_;
  ForkLocal<std::mutex> mapping_;
};

}  // namespace lds
