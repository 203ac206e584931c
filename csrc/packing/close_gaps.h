// Removes the gaps that failed images leave in a file of rows.
#pragma once

#include <cstdint>
#include <vector>

namespace lds {

// Moves the rows with the ascending indices `kept` to the front of the file, so that row kept[i] becomes row i.
void close_gaps(int descriptor, int64_t offset, int64_t row_bytes, const std::vector<int64_t>& kept);

}  // namespace lds
