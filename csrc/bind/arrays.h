// NumPy arrays of integers.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <vector>

namespace lds {

using Indices = pybind11::array_t<int64_t, pybind11::array::c_style | pybind11::array::forcecast>;

// Copies the array. Error(Reason::value) unless it has one dimension.
std::vector<int64_t> to_vector(const Indices& array);

}  // namespace lds
