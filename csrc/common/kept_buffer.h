// Codecs keep their buffers between images, because most images have a similar size. Buffers that became far larger for
// one image are freed.
#pragma once

#include <cstddef>
#include <vector>

namespace lds {

constexpr size_t kKeptBytes = size_t{64} << 20;  // per buffer; an RGB image of 22 million pixels

template <class Value>
void give_back_if_large(std::vector<Value>& buffer) noexcept {
  if (buffer.capacity() * sizeof(Value) > kKeptBytes) std::vector<Value>().swap(buffer);
}

}  // namespace lds
