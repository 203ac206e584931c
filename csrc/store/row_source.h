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

  // Tells the kernel that these rows will be read soon. Neither waits nor throws.
  virtual void will_need(const int64_t* indices, int64_t n) const noexcept = 0;

  // Whether the row is in memory, as far as one look tells; true for an index outside.
  virtual bool resident(int64_t index) const noexcept = 0;
};

}  // namespace lds
