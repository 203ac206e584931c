// The rows of a store, wherever they lie and whatever they hold.
#pragma once

#include <cstdint>

namespace lds {

// The bytes of a row.
struct Extent {
  const uint8_t* data = nullptr;
  int64_t bytes = 0;
};

// Safe from several threads, and in a forked child.
class RowSource {
 public:
  RowSource() = default;
  virtual ~RowSource() = default;
  RowSource(const RowSource&) = delete;
  RowSource& operator=(const RowSource&) = delete;

  virtual int64_t size() const noexcept = 0;

  // They stay as long as the source does. Error(Reason::index) outside [0, size()).
  virtual Extent row(int64_t index) const = 0;

  // Tells the kernel that these rows will be read soon, but for those that are known to be in memory. Returns how many
  // it was told of. Neither waits nor throws.
  virtual int64_t will_need(const int64_t* indices, int64_t n) const noexcept = 0;

  // Whether the row is in memory, as far as one look tells: false where the kernel does not say, true for an index
  // outside. Such a look may begin to read a part of the row.
  virtual bool resident(int64_t index) const noexcept = 0;
};

}  // namespace lds
