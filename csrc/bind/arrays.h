// NumPy arrays of integers.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lds {

using Indices = pybind11::array_t<int64_t, pybind11::array::c_style | pybind11::array::forcecast>;

// Copies the array. Error(Reason::value) unless it has one dimension.
std::vector<int64_t> to_vector(const Indices& array);

// A message of the core, in which the name of a file may hold bytes that are no valid text: they become what Python
// makes of them in names.
pybind11::str text_of(const std::string& message);

}  // namespace lds
