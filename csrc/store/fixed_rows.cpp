#include "store/fixed_rows.h"

#include <cstring>
#include <utility>

#include "common/file.h"

namespace lds {
namespace {

void check_size(const ShardFile& file, int64_t row_bytes, Files files) {
  int64_t data = 0;
  int64_t expected = 0;
  if (file.rows < 0 || file.offset < 0 || __builtin_mul_overflow(file.rows, row_bytes, &data) ||
      __builtin_add_overflow(data, file.offset, &expected)) {
    throw Error(Reason::store, file.path + ": " + std::to_string(file.rows) + " rows of " + std::to_string(row_bytes) +
                                   " bytes are not a possible size");
  }
  if (files == Files::arriving) return;
  const FileStatus status = file_status(file.path, Reason::store);
  if (!status.regular || status.size < expected) {
    throw Error(Reason::store, file.path + " is short: expected at least " + std::to_string(expected) +
                                   " bytes, found " + std::to_string(status.size));
  }
}

// The rows of each shard, after a check of its file.
std::vector<int64_t> checked_rows(const std::vector<ShardFile>& shards, int64_t row_bytes, Files files) {
  if (row_bytes < 1) throw Error(Reason::value, "row_bytes must be at least 1, found " + std::to_string(row_bytes));
  std::vector<int64_t> rows;
  rows.reserve(shards.size());
  for (const ShardFile& file : shards) {
    check_size(file, row_bytes, files);
    rows.push_back(file.rows);
  }
  return rows;
}

}  // namespace

FixedRows::FixedRows(std::vector<ShardFile> shards, int64_t row_bytes, Files files)
    : row_bytes_(row_bytes), index_(checked_rows(shards, row_bytes, files)) {
  for (ShardFile& file : shards) {
    shards_.push_back(std::make_unique<Shard>());
    shards_.back()->file = std::move(file);
  }
}

FixedRows::~FixedRows() {
  for (const auto& shard : shards_) delete shard->mapped.load();
}

FixedRows::Located FixedRows::locate(int64_t index) const {
  const ShardIndex::Position position = index_.find(index);
  const Shard& shard = *shards_[position.shard];
  return {shard, shard.file.offset + position.row * row_bytes_};
}

const MappedFile& FixedRows::map(const Shard& shard) const {
  const MappedFile* mapped = shard.mapped.load(std::memory_order_acquire);
  if (mapped == nullptr) {
    const std::lock_guard<std::mutex> lock(mapping_.get());
    mapped = shard.mapped.load(std::memory_order_relaxed);
    if (mapped == nullptr) {
      mapped = new MappedFile(shard.file.path, shard.file.offset + shard.file.rows * row_bytes_);
      shard.mapped.store(mapped, std::memory_order_release);
    }
  }
  return *mapped;
}

Extent FixedRows::row(int64_t index) const {
  const Located row = locate(index);
  return {map(row.shard).data() + row.offset, row_bytes_};
}

std::vector<std::pair<const uint8_t*, int64_t>> FixedRows::mapped() const {
  std::vector<std::pair<const uint8_t*, int64_t>> found;
  found.reserve(shards_.size());
  for (const auto& shard : shards_) {
    const ShardFile& file = shard->file;
    found.emplace_back(map(*shard).data(), file.offset + file.rows * row_bytes_);
  }
  return found;
}

void FixedRows::copy(int64_t index, uint8_t* out) const {
  std::memcpy(out, row(index).data, static_cast<size_t>(row_bytes_));
  convert(index, out);
}

std::string FixedRows::describe(int64_t index) const {
  const ShardIndex::Position position = index_.find(index);
  return row_name(shards_[position.shard]->file.path, position.row, index);
}

int64_t FixedRows::will_need(const int64_t* indices, int64_t n) const noexcept {
  int64_t requested = 0;
  for (int64_t i = 0; i < n; ++i) {
    try {
      const Located row = locate(indices[i]);
      const MappedFile& file = map(row.shard);
      if (file.probes_without_reading() && file.resident(middle_of(row.offset))) continue;
      file.will_need(row.offset, row_bytes_);
      ++requested;
    } catch (const std::exception&) {
      continue;  // advisory: the error surfaces when the row is read
    }
  }
  return requested;
}

void FixedRows::release(int64_t index) const noexcept {
  try {
    const Shard& shard = locate(index).shard;
    const std::lock_guard<std::mutex> lock(mapping_.get());
    delete shard.mapped.exchange(nullptr, std::memory_order_acq_rel);
  } catch (const std::exception&) {
    return;  // no such row, so nothing is mapped for it
  }
}

bool FixedRows::resident(int64_t index) const noexcept {
  try {
    const Located row = locate(index);
    return map(row.shard).resident(middle_of(row.offset));
  } catch (const std::exception&) {
    return true;
  }
}

void FixedRows::read(const int64_t* indices, int64_t n, uint8_t* out) const {
  const Shard* opened = nullptr;
  std::unique_ptr<File> file;
  for (int64_t i = 0; i < n; ++i) {
    const Located row = locate(indices[i]);
    if (opened != &row.shard) {
      file = std::make_unique<File>(row.shard.file.path);
      opened = &row.shard;
    }
    file->read_exactly(out + i * row_bytes_, row_bytes_, row.offset);
    convert(indices[i], out + i * row_bytes_);
  }
}

}  // namespace lds
