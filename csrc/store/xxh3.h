// XXH3, 64 bits, seed 0: one function a vector width, all with the same result.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lds {

uint64_t xxh3(const uint8_t* data, size_t bytes) noexcept;       // with what every processor of this kind has
uint64_t xxh3_avx2(const uint8_t* data, size_t bytes) noexcept;  // x86-64 alone

}  // namespace lds
