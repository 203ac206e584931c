// Binds the specs that Gather and Packer take: plain values with typed keyword arguments.
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind/bind.h"
#include "bind/choice.h"
#include "bind/initialised.h"
#include "bind/specs.h"
#include "packing/image_to_row.h"
#include "store/image_reader.h"

namespace py = pybind11;

namespace lds {
namespace {

ImageLayout make_layout(int channels, int height, int width, bool planar, const std::string& dtype) {
  return {channels, {height, width}, planar, pixel_type_named(dtype)};
}

ReadSpec make_read(const ImageLayout& images, const std::string& codec, bool scaled, uint64_t max_pixels,
                   const std::vector<ReadSpec>& parts) {
  const auto chosen = choice<Codec>("codec", {{"raw", Codec::raw}, {"jpeg", Codec::jpeg}, {"png", Codec::png}}, codec);
  return {chosen, images, scaled, max_pixels, parts};
}

AugmentSpec make_augment(const std::string& crop, int height, int width, const std::array<int, 2>& resize, int padding,
                         const std::array<double, 2>& scale, const std::array<double, 2>& ratio, double flip,
                         double vertical_flip, const std::string& filter) {
  AugmentSpec spec;
  spec.crop = choice<CropMode>("crop",
                               {{"none", CropMode::none},
                                {"center", CropMode::center},
                                {"random", CropMode::random},
                                {"random_resized", CropMode::random_resized}},
                               crop);
  spec.size = {height, width};
  spec.resize = {resize[0], resize[1]};
  spec.padding = padding;
  std::copy(scale.begin(), scale.end(), spec.scale);
  std::copy(ratio.begin(), ratio.end(), spec.ratio);
  spec.flip = flip;
  spec.vertical_flip = vertical_flip;
  spec.filter = filter_named(filter);
  return spec;
}

std::pair<int, int> augmented_size(const AugmentSpec& spec, int height, int width) {
  check(spec, {height, width});
  const ImageSize size = sample_size(spec, {height, width});
  return {size.height, size.width};
}

OutputSpec make_output(bool planar, const std::string& dtype, std::vector<float> multiply, std::vector<float> add,
                       double padding, const std::optional<std::string>& filter) {
  OutputSpec spec{planar, pixel_type_named(dtype), std::move(multiply), std::move(add), padding};
  if (filter) spec.filter = filter_named(*filter);
  return spec;
}

RowSpec make_row(int resize_h, int resize_w, int crop_h, int crop_w, int out_h, int out_w, bool planar,
                 const std::string& filter, bool antialias, bool scaled, int channels, bool exif_orientation,
                 bool keep_truncated, uint64_t max_pixels, bool mask) {
  RowSpec spec;
  spec.resize_h = resize_h;
  spec.resize_w = resize_w;
  spec.crop_h = crop_h;
  spec.crop_w = crop_w;
  spec.out_h = out_h;
  spec.out_w = out_w;
  spec.planar = planar;
  spec.filter = filter_named(filter);
  spec.antialias = antialias;
  spec.scaled = scaled;
  spec.decode = {channels, exif_orientation, keep_truncated, max_pixels};
  spec.decode.mask = mask;
  return spec;
}

std::pair<int, int> row_size(const RowSpec& spec, int width, int height) {
  if (width < 1 || height < 1) throw Error(Reason::value, "width and height must be at least 1");
  const IntBox part = row_geometry(spec, width, height).part;
  return {part.height(), part.width()};
}

}  // namespace

void register_specs(py::module_& m) {
  py::class_<ImageLayout>(m, "ImageLayout")
      .def(py::init(&make_layout), py::kw_only(), py::arg("channels"), py::arg("height"), py::arg("width"),
           py::arg("planar") = true, py::arg("dtype") = "uint8")
      .def_property_readonly("bytes", &ImageLayout::bytes);
  py::class_<ReadSpec>(m, "ReadSpec")
      .def(py::init(&make_read), py::arg("images"), py::kw_only(), py::arg("codec") = "raw", py::arg("scaled") = false,
           py::arg("max_pixels") = 0, py::arg("parts") = std::vector<ReadSpec>{});
  const AugmentSpec augment;
  py::class_<AugmentSpec>(m, "AugmentSpec")
      .def(py::init(&make_augment), py::kw_only(), py::arg("crop") = "none", py::arg("height") = 0,
           py::arg("width") = 0, py::arg("resize") = std::array<int, 2>{0, 0}, py::arg("padding") = 0,
           py::arg("scale") = std::array<double, 2>{augment.scale[0], augment.scale[1]},
           py::arg("ratio") = std::array<double, 2>{augment.ratio[0], augment.ratio[1]}, py::arg("flip") = 0.0,
           py::arg("vertical_flip") = 0.0, py::arg("filter") = "bilinear")
      .def("output_size", &augmented_size, py::arg("height"), py::arg("width"));
  py::class_<OutputSpec>(m, "OutputSpec")
      .def(py::init(&make_output), py::kw_only(), py::arg("planar") = true, py::arg("dtype") = "float32",
           py::arg("multiply") = std::vector<float>{}, py::arg("add") = std::vector<float>{}, py::arg("padding") = 0.0,
           py::arg("filter") = py::none());
  py::class_<RowSpec>(m, "RowSpec")
      .def(py::init(&make_row), py::kw_only(), py::arg("resize_h") = 256, py::arg("resize_w") = 0,
           py::arg("crop_h") = 224, py::arg("crop_w") = 224, py::arg("out_h") = 224, py::arg("out_w") = 224,
           py::arg("planar") = true, py::arg("filter") = "bilinear", py::arg("antialias") = true,
           py::arg("scaled") = false, py::arg("channels") = 3, py::arg("exif_orientation") = true,
           py::arg("keep_truncated") = false, py::arg("max_pixels") = DecodeOptions{}.max_pixels,
           py::arg("mask") = false)
      .def_property_readonly(
          "row_bytes", [](const RowSpec& spec) { return int64_t{spec.out_h} * spec.out_w * spec.decode.channels; })
      .def("output_size", &row_size, py::arg("width"), py::arg("height"));
}

}  // namespace lds
