#include "bind/gather_spec.h"

#include <pybind11/stl.h>

#include <map>
#include <sstream>

#include "common/error.h"

namespace py = pybind11;

namespace lds {
namespace {

template <class Value>
Value choose(const char* what, const std::map<std::string, Value>& values, const std::string& word) {
  const auto found = values.find(word);
  if (found != values.end()) return found->second;
  std::string known;
  for (const auto& [name, value] : values) known += (known.empty() ? "" : ", ") + name;
  throw Error(Reason::value, std::string(what) + ": expected one of " + known + ", found '" + word + "'");
}

PixelType pixel_type(const std::string& word) {
  return choose<PixelType>("dtype",
                           {{"uint8", PixelType::uint8},
                            {"float32", PixelType::float32},
                            {"float16", PixelType::float16},
                            {"bfloat16", PixelType::bfloat16}},
                           word);
}

CropMode crop_mode(const std::string& word) {
  return choose<CropMode>("crop",
                          {{"none", CropMode::none},
                           {"center", CropMode::center},
                           {"random", CropMode::random},
                           {"random_resized", CropMode::random_resized}},
                          word);
}

void set_pair(const char* what, const py::handle& value, double (&pair)[2]) {
  const auto values = value.cast<std::vector<double>>();
  if (values.size() != 2) {
    throw Error(Reason::value, std::string(what) + ": expected two numbers, found " + std::to_string(values.size()));
  }
  pair[0] = values[0];
  pair[1] = values[1];
}

void set_channels(const char* what, const py::handle& value, int channels, std::array<float, 4>& out) {
  const auto values = value.cast<std::vector<float>>();
  if (values.size() != static_cast<size_t>(channels)) {
    throw Error(Reason::value, std::string(what) + ": expected " + std::to_string(channels) +
                                   " numbers, one a channel, found " + std::to_string(values.size()));
  }
  std::copy(values.begin(), values.end(), out.begin());
}

std::string text(const std::vector<int64_t>& numbers) {
  std::ostringstream out;
  out << '(';
  for (size_t i = 0; i < numbers.size(); ++i) out << (i == 0 ? "" : ", ") << numbers[i];
  out << ')';
  return out.str();
}

}  // namespace

GatherSpec gather_spec(const py::kwargs& words) {
  GatherSpec spec;
  spec.channels = words["channels"].cast<int>();
  spec.height = spec.out_height = words["height"].cast<int>();
  spec.width = spec.out_width = words["width"].cast<int>();
  for (const auto& [key, value] : words) {
    const auto word = key.cast<std::string>();
    if (word == "channels" || word == "height" || word == "width") continue;
    if (word == "planar_rows") {
      spec.planar_rows = value.cast<bool>();
    } else if (word == "row_type") {
      spec.row_type = pixel_type(value.cast<std::string>());
    } else if (word == "out_height") {
      spec.out_height = value.cast<int>();
    } else if (word == "out_width") {
      spec.out_width = value.cast<int>();
    } else if (word == "planar_out") {
      spec.planar_out = value.cast<bool>();
    } else if (word == "out_type") {
      spec.out_type = pixel_type(value.cast<std::string>());
    } else if (word == "crop") {
      spec.crop = crop_mode(value.cast<std::string>());
    } else if (word == "variants") {
      spec.variants = value.cast<int>();
    } else if (word == "variant_choice") {
      spec.variant_choice = choose<VariantChoice>(
          "variant", {{"draw", VariantChoice::draw}, {"cycle", VariantChoice::cycle}}, value.cast<std::string>());
    } else if (word == "padding") {
      spec.padding = value.cast<int>();
    } else if (word == "scale") {
      set_pair("scale", value, spec.scale);
    } else if (word == "ratio") {
      set_pair("ratio", value, spec.ratio);
    } else if (word == "flip") {
      spec.flip = value.cast<double>();
    } else if (word == "multiply") {
      set_channels("multiply", value, spec.channels, spec.multiply);
    } else if (word == "add") {
      set_channels("add", value, spec.channels, spec.add);
    } else {
      throw py::type_error("Gather has no argument '" + word + "'");
    }
  }
  return spec;
}

dlpack::DataType dtype_of(PixelType type) {
  switch (type) {
    case PixelType::uint8: return {dlpack::kUInt, 8};
    case PixelType::float32: return {dlpack::kFloat, 32};
    case PixelType::float16: return {dlpack::kFloat, 16};
    case PixelType::bfloat16: break;
  }
  return {dlpack::kBfloat, 16};
}

std::vector<int64_t> batch_shape(const GatherSpec& spec, int64_t n) {
  return {n, spec.channels, spec.out_height, spec.out_width};
}

std::vector<int64_t> batch_strides(const GatherSpec& spec) {
  const int64_t c = spec.channels;
  const int64_t h = spec.out_height;
  const int64_t w = spec.out_width;
  if (spec.planar_out) return {c * h * w, h * w, w, 1};
  return {c * h * w, 1, w * c, c};
}

void check_batch(const GatherSpec& spec, int64_t n, const TensorView& out) {
  const std::vector<int64_t> shape = batch_shape(spec, n);
  if (out.shape() != shape) {
    throw Error(Reason::value, "out: expected shape " + text(shape) + ", found " + text(out.shape()));
  }
  const std::string expected = name_of(dtype_of(spec.out_type)), found = name_of(out.dtype());
  if (found != expected) throw Error(Reason::value, "out: expected dtype " + expected + ", found " + found);
  if (!out.has_strides(batch_strides(spec))) {
    throw Error(Reason::value, std::string("out: expected a ") + (spec.planar_out ? "contiguous" : "channels_last") +
                                   " tensor, found strides " + text(out.strides()));
  }
}

}  // namespace lds
