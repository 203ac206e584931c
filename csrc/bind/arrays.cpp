#include "bind/arrays.h"

#include <string>

#include "common/error.h"

namespace lds {

std::vector<int64_t> to_vector(const Indices& array) {
  if (array.ndim() != 1) throw Error(Reason::value, "expected one dimension, found " + std::to_string(array.ndim()));
  return {array.data(), array.data() + array.size()};
}

pybind11::str text_of(const std::string& message) {
  PyObject* text = PyUnicode_DecodeUTF8(message.data(), static_cast<Py_ssize_t>(message.size()), "surrogateescape");
  if (text == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::str>(text);
}

}  // namespace lds
