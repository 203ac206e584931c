// Helpers for bindings that take specs: names of enum values, and the shape and dtype of batches.
#pragma once

#include <string>
#include <vector>

#include "bind/tensor.h"
#include "loading/gather.h"

namespace lds {

// `name` is that of a PixelType, such as "uint8"; else Error(Reason::value).
PixelType pixel_type_named(const std::string& name);
VariantChoice variant_choice_named(const std::string& name);  // "draw" or "cycle"

dlpack::DataType dtype_of(PixelType type);

// The shape (n, C, H, W) of a part of a batch, and its strides in elements.
std::vector<int64_t> part_shape(const Gather& gather, size_t part, int64_t n);
std::vector<int64_t> part_strides(const Gather& gather, size_t part);

// Error(Reason::value) unless `out` has the shape, dtype and strides of this part of a batch of n samples.
void check_part(const Gather& gather, size_t part, int64_t n, const TensorView& out);

}  // namespace lds
