// Fuzzes what a manifest says of the files of a store: offsets, numbers of rows, and indices of any size. What is taken
// must be what a plain loop over the shards finds.
#include <cstring>
#include <vector>

#include "memory_file.h"
#include "store/fixed_rows.h"

namespace {

constexpr int64_t kFileBytes = 10000;

bool is_possible(const std::vector<lds::ShardFile>& shards, int64_t row_bytes) {
  for (const lds::ShardFile& shard : shards) {
    if (shard.offset < 0 || shard.offset > kFileBytes || shard.rows < 0) return false;
    if (shard.rows > (kFileBytes - shard.offset) / row_bytes) return false;
  }
  return true;
}

// The offset of a row in the file, or -1 if there is no such row.
int64_t offset_of(const std::vector<lds::ShardFile>& shards, int64_t row_bytes, int64_t index) {
  for (const lds::ShardFile& shard : shards) {
    if (index < 0) return -1;
    if (index < shard.rows) return shard.offset + index * row_bytes;
    index -= shard.rows;
  }
  return -1;
}

void check_row(const lds::FixedRows& rows, int64_t row_bytes, int64_t index, int64_t offset) {
  std::vector<uint8_t> read(offset < 0 ? 1 : static_cast<size_t>(row_bytes));
  static_cast<void>(rows.will_need(&index, 1));
  static_cast<void>(rows.resident(index));
  try {
    const lds::Extent mapped = rows.row(index);
    rows.read(&index, 1, read.data());
    fuzz::expect(offset >= 0 && mapped.bytes == row_bytes);
    fuzz::expect(std::memcmp(mapped.data, read.data(), read.size()) == 0);
    fuzz::expect(read.front() == fuzz::byte_at(offset) && read.back() == fuzz::byte_at(offset + row_bytes - 1));
  } catch (const lds::Error& error) {
    fuzz::expect(offset < 0 && error.reason() == lds::Reason::index);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::MemoryFile file(fuzz::pattern(kFileBytes));
  fuzz::Choices choices{data, size};
  const int64_t row_bytes = fuzz::number(choices, 300);
  std::vector<lds::ShardFile> shards(static_cast<size_t>(choices.next() % 6));
  for (lds::ShardFile& shard : shards) shard = {file.path(), fuzz::number(choices, 5000), fuzz::number(choices, 40)};
  const bool possible = row_bytes >= 1 && is_possible(shards, row_bytes);
  try {
    const lds::FixedRows rows(shards, row_bytes);
    fuzz::expect(possible);
    for (int i = 0; i < 8; ++i) {
      const int64_t index = fuzz::number(choices, 200);
      check_row(rows, row_bytes, index, offset_of(shards, row_bytes, index));
    }
  } catch (const lds::Error& error) {
    fuzz::expect(!possible && (error.reason() == lds::Reason::store || error.reason() == lds::Reason::value));
  }
  return 0;
}
