// Puts rows that were made later in their places among the rows of a file.
#pragma once

#include <cstdint>
#include <vector>

namespace lds {

// From `offset` on, the file `descriptor` has the rows with `inserted[i] == 0`, and the file `source`, from its begin
// on, those with `inserted[i] == 1`; row i has lengths[i] bytes. Afterwards, `descriptor` has all rows in order.
// Error(io).
void insert_rows(int descriptor, int64_t offset, const std::vector<int64_t>& lengths,
                 const std::vector<uint8_t>& inserted, int source);

}  // namespace lds
