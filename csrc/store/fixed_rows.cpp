#include "store/fixed_rows.h"

#include <algorithm>
#include <utility>

#include "common/file.h"

namespace lds {
namespace {

void check_size(const ShardFile& file, int64_t row_bytes) {
  const FileStatus status = file_status(file.path, Reason::store);
  int64_t data = 0;
  int64_t expected = 0;
  if (file.rows < 0 || file.offset < 0 || __builtin_mul_overflow(file.rows, row_bytes, &data) ||
      __builtin_add_overflow(data, file.offset, &expected)) {
    throw Error(Reason::store, file.path + ": " + std::to_string(file.rows) + " rows of " + std::to_string(row_bytes) +
                                   " bytes are not a possible size");
  }
  if (!status.regular || status.size < expected) {
    throw Error(Reason::store, file.path + " is short: expected at least " + std::to_string(expected) +
                                   " bytes, found " + std::to_string(status.size));
  }
}

}  // namespace

FixedRows::FixedRows(std::vector<ShardFile> shards, int64_t row_bytes) : row_bytes_(row_bytes) {
  if (row_bytes < 1) throw Error(Reason::value, "row_bytes must be at least 1, found " + std::to_string(row_bytes));
  even_rows_ = shards.empty() ? 0 : shards.front().rows;
  for (ShardFile& file : shards) {
    check_size(file, row_bytes);
    const bool last = &file == &shards.back();
    if (file.rows == 0) continue;  // shard_of() relies on shards not being empty
    if (last ? file.rows > even_rows_ : file.rows != even_rows_) even_rows_ = 0;
    auto shard = std::make_unique<Shard>();
    shard->start = size_;
    size_ += file.rows;
    shard->file = std::move(file);
    shards_.push_back(std::move(shard));
  }
  if (shards_.size() != shards.size()) even_rows_ = 0;
}

FixedRows::~FixedRows() {
  for (const auto& shard : shards_) delete shard->mapped.load();
}

const FixedRows::Shard& FixedRows::shard_of(int64_t index) const {
  if (index < 0 || index >= size_) {
    throw Error(Reason::index, "row " + std::to_string(index) + " is outside the store's " + std::to_string(size_) +
                                   " rows; expected 0 to " + std::to_string(size_ - 1));
  }
  if (even_rows_ > 0) {
    const int64_t last = static_cast<int64_t>(shards_.size()) - 1;
    return *shards_[static_cast<size_t>(std::min(index / even_rows_, last))];
  }
  const auto after = std::upper_bound(shards_.begin(), shards_.end(), index,
                                      [](int64_t row, const auto& shard) { return row < shard->start; });
  return **std::prev(after);
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
  const Shard& shard = shard_of(index);
  return {map(shard).data() + offset_in(shard, index), row_bytes_};
}

int64_t FixedRows::will_need(const int64_t* indices, int64_t n) const noexcept {
  int64_t requested = 0;
  for (int64_t i = 0; i < n; ++i) {
    try {
      const Shard& shard = shard_of(indices[i]);
      const MappedFile& file = map(shard);
      const int64_t offset = offset_in(shard, indices[i]);
      if (file.probes_without_reading() && file.resident(middle_of(offset))) continue;
      file.will_need(offset, row_bytes_);
      ++requested;
    } catch (const std::exception&) {
      continue;  // advisory: the error surfaces when the row is read
    }
  }
  return requested;
}

bool FixedRows::resident(int64_t index) const noexcept {
  try {
    const Shard& shard = shard_of(index);
    return map(shard).resident(middle_of(offset_in(shard, index)));
  } catch (const std::exception&) {
    return true;
  }
}

void FixedRows::read(const int64_t* indices, int64_t n, uint8_t* out) const {
  const Shard* opened = nullptr;
  std::unique_ptr<File> file;
  for (int64_t i = 0; i < n; ++i) {
    const Shard& shard = shard_of(indices[i]);
    if (opened != &shard) {
      file = std::make_unique<File>(shard.file.path);
      opened = &shard;
    }
    file->read_exactly(out + i * row_bytes_, row_bytes_, offset_in(shard, indices[i]));
  }
}

}  // namespace lds
