// Buffers are kept between images, as most images are of similar size. What one far larger image needed goes back.
#pragma once

#include <cstddef>
#include <vector>

namespace lds {

constexpr size_t kKeptBytes = size_t{64} << 20;  // of one buffer: an RGB image of 22 million pixels

template <class Value>
void give_back_if_large(std::vector<Value>& buffer) noexcept {
  if (buffer.capacity() * sizeof(Value) > kKeptBytes) std::vector<Value>().swap(buffer);
}

}  // namespace lds
