#include "bind/arrays.h"

#include <string>

#include "common/error.h"

namespace lds {

std::vector<int64_t> to_vector(const Indices& array) {
  if (array.ndim() != 1) throw Error(Reason::value, "expected one dimension, found " + std::to_string(array.ndim()));
  return {array.data(), array.data() + array.size()};
}

}  // namespace lds
