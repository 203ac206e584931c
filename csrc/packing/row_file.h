// Rows at their places in a file that is being written.
#pragma once

#include <cstdint>
#include <vector>

namespace lds {

// Writes all of it. Error(Reason::io) saying why it can't; a full disk is named as such.
void write_exactly(int descriptor, const uint8_t* data, int64_t bytes, int64_t offset);

// Moves the rows `kept` (ascending numbers) to the front, in order: row kept[i] becomes row i.
void close_gaps(int descriptor, int64_t offset, int64_t row_bytes, const std::vector<int64_t>& kept);

// Lets the disk begin to write these bytes, so that a sync at the end has little left to wait for.
void begin_write_back(int descriptor, int64_t offset, int64_t bytes) noexcept;

}  // namespace lds
