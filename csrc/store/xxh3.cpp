#include "store/xxh3.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace lds {

uint64_t xxh3(const uint8_t* data, size_t bytes) noexcept { return XXH3_64bits(data, bytes); }

}  // namespace lds
