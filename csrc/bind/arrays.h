// Numpy arrays of whole numbers, and how many bytes a tensor takes.
#pragma once

#include <pybind11/numpy.h>
#include <torch/csrc/utils/pybind.h>

#include <vector>

namespace lds {

using Indices = pybind11::array_t<int64_t, pybind11::array::c_style | pybind11::array::forcecast>;

// Error(Reason::value) unless it has one dimension.
std::vector<int64_t> numbers(const Indices& array);

// Error(Reason::value) for a negative size, or one too large to count.
int64_t tensor_bytes(const std::vector<int64_t>& shape, at::ScalarType type);

}  // namespace lds
