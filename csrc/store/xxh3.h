// XXH3 (64 bits, seed 0), compiled for several instruction sets with the same result.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lds {

uint64_t xxh3(const uint8_t* data, size_t bytes) noexcept;       // baseline instruction set of the architecture
uint64_t xxh3_avx2(const uint8_t* data, size_t bytes) noexcept;  // x86-64 only

}  // namespace lds
