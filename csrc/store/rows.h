// The rows of all shards of one array (images, or one field) as one sequence of fixed-size rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lds {

struct ShardFile {
  std::string path;
  int64_t offset = 0;  // bytes before the first row
  int64_t rows = 0;
};

// Shards are mapped read-only when first touched, so that opening costs nothing per row.
// Safe to use from several threads, and in a forked child.
class Rows {
 public:
  // Checks every file's size now: Error(Reason::store) naming the file when one is short.
  Rows(std::vector<ShardFile> shards, int64_t row_bytes);
  ~Rows();

  int64_t size() const noexcept;
  int64_t row_bytes() const noexcept;

  // Pointer to row `index`; Error(Reason::index) outside [0, size()).
  const uint8_t* row(int64_t index) const;

  // Says that these rows will be read soon (readahead); never blocks for long, never throws.
  void will_need(const int64_t* indices, int64_t n) const noexcept;

  // Whether the row's middle is in memory; true for a row that is not there.
  bool resident(int64_t index) const noexcept;

  // Reads rows with pread into `out` (n * row_bytes), for cold data and for a clear error when a
  // file was cut while open.
  void read(const int64_t* indices, int64_t n, uint8_t* out) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
