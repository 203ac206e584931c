// Binds resize(), for tests and as the reference for the loader's random resized crop.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "bind/bind.h"
#include "common/error.h"
#include "resize/resize.h"

namespace py = pybind11;

namespace lds {

namespace {

py::array_t<uint8_t> resize(const py::array_t<uint8_t>& image, int out_h, int out_w,
                            const std::optional<std::array<float, 4>>& box,
                            const std::optional<std::array<int, 4>>& crop, const std::string& filter, bool antialias,
                            bool planar, bool planar_source) {
  if (image.ndim() != 3 || !(image.flags() & py::array::c_style)) {
    throw Error(Reason::value, "image must be a contiguous uint8 array of 3 dimensions");
  }
  const int height = static_cast<int>(image.shape(planar_source ? 1 : 0));
  const int width = static_cast<int>(image.shape(planar_source ? 2 : 1));
  const int channels = static_cast<int>(image.shape(planar_source ? 0 : 2));
  ResizeSpec spec;
  spec.in_width = width;
  spec.in_height = height;
  spec.channels = channels;
  const std::array<float, 4> all = {0, 0, static_cast<float>(width), static_cast<float>(height)};
  std::copy_n(box.value_or(all).begin(), 4, spec.box);
  spec.out_width = out_w;
  spec.out_height = out_h;
  const std::array<int, 4> part = crop.value_or(std::array<int, 4>{0, 0, out_w, out_h});
  spec.crop = {part[0], part[1], part[2], part[3]};
  spec.filter = filter_named(filter);
  spec.antialias = antialias;
  const int64_t h = spec.crop.height(), w = spec.crop.width();
  if (h < 1 || w < 1 || channels < 1)
    throw Error(Reason::value, "the size, the crop and the channels must be at least 1");
  py::array_t<uint8_t> result =
      planar ? py::array_t<uint8_t>({int64_t{channels}, h, w}) : py::array_t<uint8_t>({h, w, int64_t{channels}});
  const ImageView out = planar ? ImageView::chw(result.mutable_data(), spec.crop.height(), spec.crop.width(), channels)
                               : ImageView::hwc(result.mutable_data(), spec.crop.height(), spec.crop.width(), channels);
  const ConstImageView src = planar_source ? ConstImageView::chw(image.data(), height, width, channels)
                                           : ConstImageView::hwc(image.data(), height, width, channels);
  const py::gil_scoped_release release;
  thread_local StreamingResizer resizer;
  resizer.resize(src, spec, out);
  return result;
}

}  // namespace

void register_resize(py::module_& m) {
  m.def(
      "resize", &resize, py::arg("image"), py::arg("out_h"), py::arg("out_w"), py::kw_only(),
      py::arg("box") = py::none(), py::arg("crop") = py::none(), py::arg("filter") = "bilinear",
      py::arg("antialias") = true, py::arg("planar") = false, py::arg("planar_source") = false,
      "Resizes uint8 (H, W, C), or (C, H, W) with planar_source, like Pillow's Image.resize, and crops the output to\n"
      "crop = (x0, y0, x1, y1). Returns (h, w, C), or (C, h, w) with planar. Raises ArgumentError.");
}

}  // namespace lds
