// Tells memory that may not be written to, before a write to it would end the process.
#pragma once

#include <cstdint>

namespace lds {

// False if the first or the last of these bytes is mapped read-only, as those of a file that is open for reading are.
// Nothing is changed. Without bytes: true.
bool is_writable(uint8_t* data, int64_t bytes) noexcept;

}  // namespace lds
