// Rows of failed images leave gaps in a file that is being written.
#pragma once

#include <cstdint>
#include <vector>

namespace lds {

// Moves the rows `kept` (ascending numbers) to the front, in order: row kept[i] becomes row i.
void close_gaps(int descriptor, int64_t offset, int64_t row_bytes, const std::vector<int64_t>& kept);

}  // namespace lds
