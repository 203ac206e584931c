// The keyword arguments of a gather, and what a batch tensor must look like.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "bind/tensor.h"
#include "loading/gather.h"

namespace lds {

GatherSpec gather_spec(const pybind11::kwargs& words);

dlpack::DataType dtype_of(PixelType type);

// (n, C, H, W), and the strides that planar_out asks for.
std::vector<int64_t> batch_shape(const GatherSpec& spec, int64_t n);
std::vector<int64_t> batch_strides(const GatherSpec& spec);

// Error(Reason::value) naming expected and found unless `out` is a batch of n for this spec.
void check_batch(const GatherSpec& spec, int64_t n, const TensorView& out);

}  // namespace lds
