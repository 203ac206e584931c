#include "store/rows.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "common/error.h"
#include "common/fork_local.h"
#include "store/mapped_file.h"

namespace lds {
namespace {

struct Shard {
  ShardFile file;
  int64_t start = 0;  // number of its first row
  // Set once, under the mutex; read without it.
  std::atomic<const MappedFile*> mapped{nullptr};
};

void check_size(const ShardFile& file, int64_t row_bytes) {
  struct stat status{};
  if (stat(file.path.c_str(), &status) != 0) {
    throw Error(Reason::store, "can't open " + file.path + ": " + std::strerror(errno));
  }
  int64_t data = 0;
  int64_t expected = 0;
  if (file.rows < 0 || file.offset < 0 || __builtin_mul_overflow(file.rows, row_bytes, &data) ||
      __builtin_add_overflow(data, file.offset, &expected)) {
    throw Error(Reason::store, file.path + ": " + std::to_string(file.rows) + " rows of " + std::to_string(row_bytes) +
                                   " bytes are no possible size");
  }
  if (!S_ISREG(status.st_mode) || status.st_size < expected) {
    throw Error(Reason::store, file.path + " is short: expected at least " + std::to_string(expected) +
                                   " bytes, found " + std::to_string(status.st_size));
  }
}

}  // namespace

struct Rows::State {
  std::vector<std::unique_ptr<Shard>> shards;
  int64_t row_bytes = 0;
  int64_t size = 0;
  int64_t even_rows = 0;  // rows of every shard but the last, when they are equal; else 0
  ForkLocal<std::mutex> mapping;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    for (const auto& shard : shards) delete shard->mapped.load();
  }

  const MappedFile& map(Shard& shard) const {
    const MappedFile* mapped = shard.mapped.load(std::memory_order_acquire);
    if (mapped == nullptr) {
      const std::lock_guard<std::mutex> lock(mapping.get());
      mapped = shard.mapped.load(std::memory_order_relaxed);
      if (mapped == nullptr) {
        mapped = new MappedFile(shard.file.path, shard.file.offset + shard.file.rows * row_bytes);
        shard.mapped.store(mapped, std::memory_order_release);
      }
    }
    return *mapped;
  }

  Shard& shard_of(int64_t index) const {
    if (index < 0 || index >= size) {
      throw Error(Reason::index, "row " + std::to_string(index) + " is outside the store's " + std::to_string(size) +
                                     " rows; expected 0 to " + std::to_string(size - 1));
    }
    if (even_rows > 0) {
      const int64_t last = static_cast<int64_t>(shards.size()) - 1;
      return *shards[static_cast<size_t>(std::min(index / even_rows, last))];
    }
    const auto after = std::upper_bound(shards.begin(), shards.end(), index,
                                        [](int64_t row, const auto& shard) { return row < shard->start; });
    return **std::prev(after);
  }

  int64_t offset_in(const Shard& shard, int64_t index) const {
    return shard.file.offset + (index - shard.start) * row_bytes;
  }
};

Rows::Rows(std::vector<ShardFile> shards, int64_t row_bytes) : state_(std::make_unique<State>()) {
  if (row_bytes < 1) throw Error(Reason::value, "row_bytes must be at least 1, found " + std::to_string(row_bytes));
  state_->row_bytes = row_bytes;
  state_->even_rows = shards.empty() ? 0 : shards.front().rows;
  for (ShardFile& file : shards) {
    check_size(file, row_bytes);
    const bool last = &file == &shards.back();
    if (file.rows == 0) continue;  // an empty shard would break the search for a row's shard
    if (last ? file.rows > state_->even_rows : file.rows != state_->even_rows) state_->even_rows = 0;
    auto shard = std::make_unique<Shard>();
    shard->start = state_->size;
    state_->size += file.rows;
    shard->file = std::move(file);
    state_->shards.push_back(std::move(shard));
  }
  if (state_->shards.size() != shards.size()) state_->even_rows = 0;
}

Rows::~Rows() = default;

int64_t Rows::size() const noexcept { return state_->size; }
int64_t Rows::row_bytes() const noexcept { return state_->row_bytes; }

const uint8_t* Rows::row(int64_t index) const {
  Shard& shard = state_->shard_of(index);
  return state_->map(shard).data() + state_->offset_in(shard, index);
}

void Rows::will_need(const int64_t* indices, int64_t n) const noexcept {
  for (int64_t i = 0; i < n; ++i) {
    try {
      Shard& shard = state_->shard_of(indices[i]);
      state_->map(shard).will_need(state_->offset_in(shard, indices[i]), state_->row_bytes);
    } catch (const std::exception&) {
      continue;  // advice only: whoever reads the row meets the error
    }
  }
}

bool Rows::resident(int64_t index) const noexcept {
  try {
    Shard& shard = state_->shard_of(index);
    // the middle: the first page and the last may be there for a neighbour's sake
    return state_->map(shard).resident(state_->offset_in(shard, index) + state_->row_bytes / 2);
  } catch (const std::exception&) {
    return true;
  }
}

void Rows::read(const int64_t* indices, int64_t n, uint8_t* out) const {
  const Shard* opened = nullptr;
  std::unique_ptr<FileHandle> file;
  for (int64_t i = 0; i < n; ++i) {
    const Shard& shard = state_->shard_of(indices[i]);
    if (opened != &shard) {
      file = std::make_unique<FileHandle>(shard.file.path);
      opened = &shard;
    }
    file->read_exactly(out + i * state_->row_bytes, state_->row_bytes, state_->offset_in(shard, indices[i]));
  }
}

}  // namespace lds
