#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bind/bind.h"
#include "common/error.h"
#include "common/file_bytes.h"
#include "common/thread_pool.h"
#include "packing/image_to_row.h"

namespace py = pybind11;

namespace lds {
namespace {

using Pixels = py::array_t<uint8_t, py::array::c_style>;

RowSpec make_spec(int resize_h, int resize_w, int crop_h, int crop_w, int out_h, int out_w, bool planar,
                  const std::string& filter, bool antialias, bool scaled, int channels, bool exif_orientation,
                  bool keep_truncated, uint64_t max_pixels) {
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
  return spec;
}

int64_t row_bytes(const RowSpec& spec) { return int64_t{spec.out_h} * spec.out_w * spec.decode.channels; }

// A source as the threads see it: a path, or bytes that a Python object keeps alive.
struct Source {
  std::string path;
  std::string_view bytes;
  bool is_path = false;
};

std::vector<Source> unwrap_sources(const py::list& list) {
  std::vector<Source> sources;
  sources.reserve(list.size());
  for (const py::handle item : list) {
    Source source;
    if (py::isinstance<py::bytes>(item)) {
      source.bytes = py::cast<std::string_view>(item);
    } else if (py::isinstance<py::str>(item)) {
      // fsencode: a path may hold bytes that are no valid text
      source.path = py::cast<std::string>(py::module_::import("os").attr("fsencode")(item));
      source.is_path = true;
    } else {
      throw Error(Reason::value,
                  "a source must be str or bytes, found " + py::cast<std::string>(py::repr(py::type::handle_of(item))));
    }
    sources.push_back(std::move(source));
  }
  return sources;
}

struct Outcome {
  std::string status = "ok", message;
  RowResult result;
};

// Work::row: each source's row; the others only decode, see ImageToRow::decode_only.
enum class Work : uint8_t { row, decode_needed, decode_whole };

struct Worker {
  explicit Worker(const RowSpec& spec) : rows(spec) {}
  ImageToRow rows;
  FileBytes file;

  Outcome run(Work work, const Source& source, uint8_t* out) {
    Outcome outcome;
    try {
      if (source.is_path) file.read(source.path);
      const auto* data = source.is_path ? file.data() : reinterpret_cast<const uint8_t*>(source.bytes.data());
      const size_t size = source.is_path ? file.size() : source.bytes.size();
      if (work == Work::row) {
        outcome.result = rows.convert(data, size, out);
      } else {
        rows.decode_only(data, size, work == Work::decode_whole, out);
      }
    } catch (const Error& error) {
      outcome.status = reason_name(error.reason());
      outcome.message = error.what();
    } catch (const std::bad_alloc&) {
      outcome.status = reason_name(Reason::too_large);
      outcome.message = "out of memory";
    }
    return outcome;
  }
};

py::list decode_to_rows(const py::list& list, Pixels& out, const RowSpec& spec, int threads, Work work) {
  const std::vector<Source> sources = unwrap_sources(list);
  const auto n = static_cast<int64_t>(sources.size());
  if (out.ndim() != 2 || out.shape(0) != n || out.shape(1) != row_bytes(spec)) {
    throw Error(Reason::value,
                "out must have the shape (" + std::to_string(n) + ", " + std::to_string(row_bytes(spec)) + ")");
  }
  uint8_t* rows = out.mutable_data();
  std::vector<Outcome> outcomes(sources.size());
  {
    const py::gil_scoped_release release;
    ThreadPool pool(threads);
    std::vector<std::unique_ptr<Worker>> workers(static_cast<size_t>(threads));
    pool.parallel_for(n, 1, [&](int64_t begin, int64_t end, int worker) {
      std::unique_ptr<Worker>& own = workers[static_cast<size_t>(worker)];
      if (!own) own = std::make_unique<Worker>(spec);
      for (int64_t i = begin; i < end; ++i) outcomes[i] = own->run(work, sources[i], rows + i * row_bytes(spec));
    });
  }
  py::list results;
  for (const Outcome& o : outcomes) {
    results.append(py::make_tuple(o.status, o.message, o.result.width, o.result.height));
  }
  return results;
}

void pixels_to_row(const Pixels& pixels, Pixels& out, const RowSpec& spec) {
  if (pixels.ndim() != 3) throw Error(Reason::value, "pixels must have the shape (height, width, channels)");
  if (out.size() != row_bytes(spec)) {
    throw Error(Reason::value,
                "out must hold " + std::to_string(row_bytes(spec)) + " bytes, found " + std::to_string(out.size()));
  }
  const auto view = ConstImageView::hwc(pixels.data(), static_cast<int>(pixels.shape(0)),
                                        static_cast<int>(pixels.shape(1)), static_cast<int>(pixels.shape(2)));
  uint8_t* row = out.mutable_data();
  const py::gil_scoped_release release;
  ImageToRow(spec).convert_pixels(view, row);
}

}  // namespace

void register_rows(py::module_& m) {
  py::class_<RowSpec>(m, "RowSpec")
      .def(py::init(&make_spec), py::kw_only(), py::arg("resize_h") = 256, py::arg("resize_w") = 0,
           py::arg("crop_h") = 224, py::arg("crop_w") = 224, py::arg("out_h") = 224, py::arg("out_w") = 224,
           py::arg("planar") = true, py::arg("filter") = "bilinear", py::arg("antialias") = true,
           py::arg("scaled") = false, py::arg("channels") = 3, py::arg("exif_orientation") = true,
           py::arg("keep_truncated") = false, py::arg("max_pixels") = DecodeOptions{}.max_pixels)
      .def_property_readonly("row_bytes", &row_bytes)
      .def(
          "output_size",
          [](const RowSpec& spec, int width, int height) {
            if (width < 1 || height < 1) throw Error(Reason::value, "width and height must be at least 1");
            const RowGeometry to = row_geometry(spec, width, height);
            return std::make_pair(to.y.out, to.x.out);
          },
          py::arg("width"), py::arg("height"));
  m.def(
      "decode_to_rows",
      [](const py::list& sources, Pixels& out, const RowSpec& spec, int threads) {
        return decode_to_rows(sources, out, spec, threads, Work::row);
      },
      py::arg("sources"), py::arg("out").noconvert(), py::arg("spec"), py::arg("threads"));
  m.def(
      "decode_only",
      [](const py::list& sources, Pixels& out, const RowSpec& spec, int threads, bool whole) {
        return decode_to_rows(sources, out, spec, threads, whole ? Work::decode_whole : Work::decode_needed);
      },
      py::arg("sources"), py::arg("out").noconvert(), py::arg("spec"), py::arg("threads"), py::arg("whole"));
  m.def("pixels_to_row", &pixels_to_row, py::arg("pixels").noconvert(), py::arg("out").noconvert(), py::arg("spec"));
}

}  // namespace lds
