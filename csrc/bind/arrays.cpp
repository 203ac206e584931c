#include "bind/arrays.h"

#include <string>

#include "common/error.h"

namespace lds {

std::vector<int64_t> numbers(const Indices& array) {
  if (array.ndim() != 1) throw Error(Reason::value, "expected one dimension, found " + std::to_string(array.ndim()));
  return {array.data(), array.data() + array.size()};
}

int64_t tensor_bytes(const std::vector<int64_t>& shape, at::ScalarType type) {
  auto bytes = static_cast<int64_t>(c10::elementSize(type));
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) throw Error(Reason::value, "shape: no possible size");
  }
  return bytes;
}

}  // namespace lds
