// What the bound specs share: names of choices, and what a batch tensor must look like.
#pragma once

#include <string>
#include <vector>

#include "bind/tensor.h"
#include "loading/gather.h"

namespace lds {

// "uint8", "float32", "float16", "bfloat16"; Error(Reason::value) for another name.
PixelType pixel_type_named(const std::string& name);
VariantChoice variant_choice_named(const std::string& name);  // "draw", "cycle"

dlpack::DataType dtype_of(PixelType type);

// (n, C, H, W), and the strides of its layout.
std::vector<int64_t> batch_shape(const Gather& gather, int64_t n);
std::vector<int64_t> batch_strides(const Gather& gather);

// Error(Reason::value) naming expected and found unless `out` is a batch of n samples of this gather.
void check_batch(const Gather& gather, int64_t n, const TensorView& out);

}  // namespace lds
