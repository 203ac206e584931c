// Space on disk, taken before anything is written through a mapping: a full disk is then an error and not a signal.
#pragma once

#include <cstdint>
#include <string>

namespace lds {

// Makes the file (created when missing) `bytes` long with all its blocks allocated.
// Error(Reason::io) naming path and size when there is no room.
void reserve_file(const std::string& path, int64_t bytes);

}  // namespace lds
