// The interface of everything that provides the rows of a store.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"
#include "common/image_view.h"

namespace lds {

// The bytes of a row. A source of encoded images also knows the size of the image as shown, and how its stored pixels
// are turned for that (EXIF's numbers, 1 to 8).
struct Extent {
  const uint8_t* data = nullptr;
  int64_t bytes = 0;
  ImageSize size = {};
  int orientation = 1;
  int part = 0;  // of ConcatRows: the number of the source that the row comes from
};

// Implementations are thread-safe, also in a forked child.
class RowSource {
 public:
  RowSource() = default;
  virtual ~RowSource() = default;
  RowSource(const RowSource&) = delete;
  RowSource& operator=(const RowSource&) = delete;

  virtual int64_t size() const noexcept = 0;

  // The bytes of a row, valid as long as the source. Error(Reason::index) if the index is outside [0, size()),
  // Error(Reason::store) if the files of the store are damaged there.
  virtual Extent row(int64_t index) const = 0;

  // For messages: the file of a row, and its number there and in the store.
  virtual std::string describe(int64_t index) const = 0;

  // Asks the kernel to read these rows, except those that are known to be in memory. Returns the number of rows asked
  // for. Does not block.
  virtual int64_t will_need(const int64_t* indices, int64_t n) const noexcept = 0;

  // Unmaps the files of the part, such as a shard, that has this row, so that their disk space is free once they are
  // deleted. They are mapped again when one of their rows is used. Nobody may read rows of the part meanwhile, or hold
  // one.
  virtual void release(int64_t index) const noexcept = 0;

  // Whether the row is probably in memory, by a single probe. False if the kernel does not provide the information,
  // true for an index outside [0, size()). The probe may start to read a part of the row.
  virtual bool resident(int64_t index) const noexcept = 0;
};

// Whether the files of a store are there when it is opened, so that their sizes are checked at once; or arrive before
// their rows are used, and are checked when they are mapped.
enum class Files { present, arriving };

// Whether an error with this reason is about a single row.
constexpr bool is_damage(Reason reason) noexcept {
  switch (reason) {
    case Reason::corrupt:
    case Reason::truncated:
    case Reason::too_large:
    case Reason::unsupported:
    case Reason::shape:
    case Reason::store: return true;
    default: return false;
  }
}

// Calls use(rows.row(index)). An Error about that row names it.
template <class Use>
void with_row(const RowSource& rows, int64_t index, Use use) {
  try {
    use(rows.row(index));
  } catch (const Error& error) {
    if (!is_damage(error.reason())) throw;
    throw Error(error.reason(), rows.describe(index) + ": " + error.what());
  }
}

}  // namespace lds
