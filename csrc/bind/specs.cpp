#include "bind/specs.h"

#include <string>

#include "bind/choice.h"
#include "common/error.h"

namespace lds {
namespace {

// Without a stream, as everywhere in the core: in a process with two C++ runtimes, where a compiler links its own
// statically, a stream of one finds the locale of the other, and printing a number ends the process.
std::string shape_text(const std::vector<int64_t>& numbers) {
  std::string text = "(";
  for (size_t i = 0; i < numbers.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(numbers[i]);
  return text + ")";
}

}  // namespace

PixelType pixel_type_named(const std::string& name) {
  return choice<PixelType>("dtype",
                           {{"uint8", PixelType::uint8},
                            {"float32", PixelType::float32},
                            {"float16", PixelType::float16},
                            {"bfloat16", PixelType::bfloat16},
                            {"uint16", PixelType::uint16},
                            {"int16", PixelType::int16},
                            {"int32", PixelType::int32},
                            {"int64", PixelType::int64}},
                           name);
}

VariantChoice variant_choice_named(const std::string& name) {
  return choice<VariantChoice>("variant_choice", {{"draw", VariantChoice::draw}, {"cycle", VariantChoice::cycle}},
                               name);
}

dlpack::DataType dtype_of(PixelType type) { return dtype_named(pixel_type_name(type)); }

std::vector<int64_t> part_shape(const Gather& gather, size_t part, int64_t n) {
  const auto [height, width] = gather.sample_size(part);
  return {n, gather.picture(part).read.images.channels, height, width};
}

std::vector<int64_t> part_strides(const Gather& gather, size_t part) {
  const int64_t c = gather.picture(part).read.images.channels;
  const int64_t h = gather.sample_size(part).height;
  const int64_t w = gather.sample_size(part).width;
  if (gather.picture(part).output.planar) return {c * h * w, h * w, w, 1};
  return {c * h * w, 1, w * c, c};
}

void check_part(const Gather& gather, size_t part, int64_t n, const TensorView& out) {
  const OutputSpec& output = gather.picture(part).output;
  const std::vector<int64_t> shape = part_shape(gather, part, n);
  if (out.shape() != shape) {
    throw Error(Reason::value, "out: expected shape " + shape_text(shape) + ", found " + shape_text(out.shape()));
  }
  const std::string expected = name_of(dtype_of(output.type)), found = name_of(out.dtype());
  if (found != expected) throw Error(Reason::value, "out: expected dtype " + expected + ", found " + found);
  if (!out.has_strides(part_strides(gather, part))) {
    throw Error(Reason::value, std::string("out: expected a ") + (output.planar ? "contiguous" : "channels_last") +
                                   " tensor, found strides " + shape_text(out.strides()));
  }
}

}  // namespace lds
