#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <map>
#include <optional>

#include "bind/bind.h"
#include "bind/filter_name.h"
#include "common/error.h"
#include "resize/kernels.h"
#include "resize/resize.h"

namespace py = pybind11;

namespace lds {

Filter filter_of(const std::string& name) {
  static const std::map<std::string, Filter> filters = {{"nearest", Filter::nearest},
                                                        {"box", Filter::box},
                                                        {"bilinear", Filter::bilinear},
                                                        {"bicubic", Filter::bicubic},
                                                        {"lanczos", Filter::lanczos}};
  const auto found = filters.find(name);
  if (found == filters.end()) {
    throw Error(Reason::value,
                "expected an interpolation of nearest, box, bilinear, bicubic or lanczos, found '" + name + "'");
  }
  return found->second;
}

namespace {

using Pixels = py::array_t<uint8_t, py::array::c_style | py::array::forcecast>;

Pixels resize(const Pixels& image, int out_h, int out_w, const std::optional<std::array<float, 4>>& box,
              const std::optional<std::array<int, 4>>& crop, const std::string& filter, bool antialias, bool planar) {
  if (image.ndim() != 3) throw Error(Reason::value, "expected an image of shape (H, W, C), found another rank");
  const auto height = static_cast<int>(image.shape(0));
  const auto width = static_cast<int>(image.shape(1));
  const auto channels = static_cast<int>(image.shape(2));
  ResizeSpec spec;
  spec.in_width = width;
  spec.in_height = height;
  spec.channels = channels;
  const std::array<float, 4> whole = {0, 0, static_cast<float>(width), static_cast<float>(height)};
  const std::array<float, 4>& from = box ? *box : whole;
  std::copy(from.begin(), from.end(), spec.box);
  spec.out_width = out_w;
  spec.out_height = out_h;
  spec.crop = crop ? IntBox{(*crop)[0], (*crop)[1], (*crop)[2], (*crop)[3]} : IntBox{0, 0, out_w, out_h};
  spec.filter = filter_of(filter);
  spec.antialias = antialias;
  const int h = spec.crop.height();
  const int w = spec.crop.width();
  if (h < 1 || w < 1) throw Error(Reason::value, "expected an output of at least 1x1");
  Pixels out = planar ? Pixels({channels, h, w}) : Pixels({h, w, channels});
  uint8_t* data = out.mutable_data();
  const ImageView target = planar ? ImageView::chw(data, h, w, channels) : ImageView::hwc(data, h, w, channels);
  const auto source = ConstImageView::hwc(image.data(), height, width, channels);
  {
    const py::gil_scoped_release nogil;
    StreamingResizer resizer;
    resize_image(source, spec, target, resizer);
  }
  return out;
}

}  // namespace

void register_resize(py::module_& m) {
  m.def("resize", &resize, py::arg("image"), py::arg("out_h"), py::arg("out_w"), py::kw_only(),
        py::arg("box") = py::none(), py::arg("crop") = py::none(), py::arg("filter") = "bilinear",
        py::arg("antialias") = true, py::arg("planar") = false);
  m.def("resize_kernels", [] { return std::string(resize_kernels().name); });
}

}  // namespace lds
