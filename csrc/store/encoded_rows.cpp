#include "store/encoded_rows.h"

#include <cstring>
#include <utility>

#include "common/file.h"

namespace lds {
namespace {

constexpr int64_t kMaxRows = int64_t{1} << 48;  // small enough that no size below overflows

void check_size(const std::string& path, int64_t expected) {
  const FileStatus status = file_status(path, Reason::store);
  if (status.regular && status.size >= expected) return;
  throw Error(Reason::store, path + " is short: expected at least " + std::to_string(expected) + " bytes, found " +
                                 std::to_string(status.size));
}

// The rows of each shard, after a check of its files.
std::vector<int64_t> checked_rows(const std::vector<EncodedShardFiles>& shards, int64_t array_offset, Files files) {
  std::vector<int64_t> rows;
  rows.reserve(shards.size());
  for (const EncodedShardFiles& shard : shards) {
    if (shard.rows < 0 || shard.rows > kMaxRows || array_offset < 0 || array_offset % 8 != 0 ||
        array_offset > kMaxRows) {
      throw Error(Reason::store, shard.offsets + ": " + std::to_string(shard.rows) + " rows from byte " +
                                     std::to_string(array_offset) + " on are not possible");
    }
    if (shard.bytes < 0)
      throw Error(Reason::store, shard.images + ": " + std::to_string(shard.bytes) + " bytes are not a possible size");
    rows.push_back(shard.rows);
    if (files == Files::arriving) continue;
    check_size(shard.images, shard.bytes);
    check_size(shard.offsets, array_offset + (shard.rows + 1) * int64_t{sizeof(uint64_t)});
    if (!shard.sizes.empty())
      check_size(shard.sizes, array_offset + shard.rows * int64_t{2} * int64_t{sizeof(uint16_t)});
    if (!shard.orientations.empty()) check_size(shard.orientations, array_offset + shard.rows);
  }
  return rows;
}

// An element of an array in a mapped file. The numbers are little-endian, as every supported processor is.
template <class Number>
Number element(const MappedFile& file, int64_t array_offset, int64_t i) noexcept {
  Number value;
  std::memcpy(&value, file.data() + array_offset + i * static_cast<int64_t>(sizeof value), sizeof value);
  return value;
}

// The bytes of a row between two offsets, as its shard's file has them.
struct Range {
  int64_t begin, end;
};
Range checked_range(const EncodedShardFiles& shard, int64_t row, uint64_t begin, uint64_t end) {
  if (begin <= end && end <= static_cast<uint64_t>(shard.bytes)) {
    return {static_cast<int64_t>(begin), static_cast<int64_t>(end)};
  }
  throw Error(Reason::store, shard.offsets + ": row " + std::to_string(row) + " is at bytes " + std::to_string(begin) +
                                 " to " + std::to_string(end) + " of a file of " + std::to_string(shard.bytes) +
                                 ": the offsets are damaged");
}

}  // namespace

struct EncodedRows::Mapped {
  explicit Mapped(const EncodedShardFiles& files, int64_t array_offset)
      : images(files.images, files.bytes),
        offsets(files.offsets, array_offset + (files.rows + 1) * int64_t{sizeof(uint64_t)}) {
    offsets.will_need(0, offsets.size());  // a page of these arrays serves many rows
    sizes = map_if(files.sizes, array_offset + files.rows * int64_t{2} * int64_t{sizeof(uint16_t)});
    orientations = map_if(files.orientations, array_offset + files.rows);
  }

  // Nothing without a path.
  static std::unique_ptr<MappedFile> map_if(const std::string& path, int64_t bytes) {
    if (path.empty()) return nullptr;
    auto file = std::make_unique<MappedFile>(path, bytes);
    file->will_need(0, file->size());
    return file;
  }

  Range range(const EncodedShardFiles& files, int64_t array_offset, int64_t row) const {
    return checked_range(files, row, element<uint64_t>(offsets, array_offset, row),
                         element<uint64_t>(offsets, array_offset, row + 1));
  }

  MappedFile images, offsets;
  std::unique_ptr<MappedFile> sizes, orientations;  // or nullptr
};

struct EncodedRows::Shard {
  EncodedShardFiles files;
  mutable std::atomic<const Mapped*> mapped{};  // set with the mutex locked; read without locking
};

EncodedRows::EncodedRows(std::vector<EncodedShardFiles> shards, int64_t array_offset, Files present)
    : array_offset_(array_offset), index_(checked_rows(shards, array_offset, present)) {
  for (EncodedShardFiles& files : shards) {
    shards_.push_back(std::make_unique<Shard>());
    shards_.back()->files = std::move(files);
  }
}

EncodedRows::~EncodedRows() {
  for (const auto& shard : shards_) delete shard->mapped.load();
}

const EncodedRows::Mapped& EncodedRows::map(const Shard& shard) const {
  const Mapped* mapped = shard.mapped.load(std::memory_order_acquire);
  if (mapped == nullptr) {
    const std::lock_guard<std::mutex> lock(mapping_.get());
    mapped = shard.mapped.load(std::memory_order_relaxed);
    if (mapped == nullptr) {
      mapped = new Mapped(shard.files, array_offset_);
      shard.mapped.store(mapped, std::memory_order_release);
    }
  }
  return *mapped;
}

Extent EncodedRows::row(int64_t index) const {
  const auto [number, row] = index_.find(index);
  const Mapped& mapped = map(*shards_[number]);
  const Range bytes = mapped.range(shards_[number]->files, array_offset_, row);
  Extent found{mapped.images.data() + bytes.begin, bytes.end - bytes.begin};
  if (mapped.sizes) {
    found.size.height = element<uint16_t>(*mapped.sizes, array_offset_, 2 * row);
    found.size.width = element<uint16_t>(*mapped.sizes, array_offset_, 2 * row + 1);
  }
  if (mapped.orientations) found.orientation = element<uint8_t>(*mapped.orientations, array_offset_, row);
  return found;
}

std::string EncodedRows::describe(int64_t index) const {
  const auto [number, row] = index_.find(index);
  return row_name(shards_[number]->files.images, row, index);
}

int64_t EncodedRows::will_need(const int64_t* indices, int64_t n) const noexcept {
  int64_t requested = 0;
  for (int64_t i = 0; i < n; ++i) {
    try {
      const auto [number, row] = index_.find(indices[i]);
      const Mapped& mapped = map(*shards_[number]);
      const Range bytes = mapped.range(shards_[number]->files, array_offset_, row);
      const MappedFile& images = mapped.images;
      if (images.probes_without_reading() && images.resident((bytes.begin + bytes.end) / 2)) continue;
      images.will_need(bytes.begin, bytes.end - bytes.begin);
      ++requested;
    } catch (const std::exception&) {
      continue;  // advisory: the error surfaces when the row is read
    }
  }
  return requested;
}

void EncodedRows::release(int64_t index) const noexcept {
  try {
    const Shard& shard = *shards_[index_.find(index).shard];
    const std::lock_guard<std::mutex> lock(mapping_.get());
    delete shard.mapped.exchange(nullptr, std::memory_order_acq_rel);
  } catch (const std::exception&) {
    return;  // no such row, so nothing is mapped for it
  }
}

bool EncodedRows::resident(int64_t index) const noexcept {
  try {
    const auto [number, row] = index_.find(index);
    const Mapped& mapped = map(*shards_[number]);
    const Range bytes = mapped.range(shards_[number]->files, array_offset_, row);
    return mapped.images.resident((bytes.begin + bytes.end) / 2);
  } catch (const std::exception&) {
    return true;
  }
}

std::vector<uint8_t> EncodedRows::read(int64_t index) const {
  const auto [number, row] = index_.find(index);
  const EncodedShardFiles& files = shards_[number]->files;
  uint64_t ends[2];
  File(files.offsets)
      .read_exactly(reinterpret_cast<uint8_t*>(ends), sizeof ends, array_offset_ + row * int64_t{sizeof(uint64_t)});
  const Range bytes = checked_range(files, row, ends[0], ends[1]);
  std::vector<uint8_t> data(static_cast<size_t>(bytes.end - bytes.begin));
  File(files.images).read_exactly(data.data(), bytes.end - bytes.begin, bytes.begin);
  return data;
}

}  // namespace lds
