// The interface of everything that provides the rows of a store.
#pragma once

#include <cstdint>

namespace lds {

// The bytes of a row.
struct Extent {
  const uint8_t* data = nullptr;
  int64_t bytes = 0;
};

// Implementations are thread-safe, also in a forked child.
class RowSource {
 public:
  RowSource() = default;
  virtual ~RowSource() = default;
  RowSource(const RowSource&) = delete;
  RowSource& operator=(const RowSource&) = delete;

  virtual int64_t size() const noexcept = 0;

  // The bytes of a row, valid as long as the source. Error(Reason::index) if the index is outside [0, size()).
  virtual Extent row(int64_t index) const = 0;

  // Asks the kernel to read these rows, except those that are known to be in memory. Returns the number of rows asked
  // for. Does not block.
  virtual int64_t will_need(const int64_t* indices, int64_t n) const noexcept = 0;

  // Whether the row is probably in memory, by a single probe. False if the kernel does not provide the information,
  // true for an index outside [0, size()). The probe may start to read a part of the row.
  virtual bool resident(int64_t index) const noexcept = 0;
};

}  // namespace lds
