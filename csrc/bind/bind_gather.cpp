// Binds Gather, the thread pool, and the random numbers that order and augmentation use.
#include <pybind11/stl.h>

#include <algorithm>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/initialised.h"
#include "bind/specs.h"
#include "bind/tensor.h"
#include "bind/without_gil.h"
#include "common/error.h"
#include "common/random.h"
#include "common/writable.h"
#include "store/concat_rows.h"
#include "store/fixed_rows.h"
#include "store/image_reader.h"

namespace py = pybind11;

namespace lds {
namespace {

// Error(Reason::value) unless such rows can be read like this.
void check_rows(const RowSource& rows, const ReadSpec& read) {
  check(read.images);
  const auto* fixed = dynamic_cast<const FixedRows*>(&rows);
  const auto* concat = dynamic_cast<const ConcatRows*>(&rows);
  const bool fits = concat != nullptr ? concat->parts().size() == read.parts.size()
                                      : read.parts.empty() && (read.codec == Codec::raw) == (fixed != nullptr);
  if (!fits) {
    throw Error(Reason::value, "raw images are in Rows, JPEG files in JpegRows, and several sources in ConcatRows");
  }
  if (fixed != nullptr) check_row_bytes(read.images, fixed->row_bytes());
  for (size_t i = 0; i < read.parts.size(); ++i) {
    const ReadSpec& part = read.parts[i];
    if (part.images.channels != read.images.channels || part.images.type != read.images.type) {
      throw Error(Reason::value, "the sources must have images of the same channels and dtype");
    }
    check_rows(*concat->parts()[i], part);
  }
}

std::shared_ptr<Gather> make_gather(const std::shared_ptr<RowSource>& rows, const ReadSpec& read,
                                    const AugmentSpec& augment, const OutputSpec& output, int variants,
                                    const std::string& variant_choice, bool skip_damaged,
                                    const std::vector<int64_t>& candidates) {
  check_rows(*rows, read);
  return std::make_shared<Gather>(
      rows,
      GatherSpec{read, augment, output, variants, variant_choice_named(variant_choice), {skip_damaged, candidates}});
}

void run(const Gather& gather, const Indices& indices, uint64_t seed, uint64_t epoch, const py::handle& out,
         ThreadPool& pool) {
  if (indices.ndim() != 1)
    throw Error(Reason::value, "indices: expected one dimension, found " + std::to_string(indices.ndim()));
  const TensorView batch("out", out);
  check_batch(gather, indices.size(), batch);
  if (!is_writable(batch.data(), batch.bytes()))
    throw Error(Reason::value, "out: expected a tensor that may be written to, found one over read-only memory");
  const int64_t* samples = indices.data();
  const int64_t n = indices.size();
  uint8_t* data = batch.data();
  without_gil([&] {
    gather.read_ahead(samples, nullptr, n, seed, epoch);
    gather.run(samples, nullptr, n, seed, epoch, data, pool);
  });
}

// (box, size of the resized box, part of it, flip) of a sample: what a Gather draws, for images of one size.
py::tuple geometry(const AugmentSpec& augment, int height, int width, uint64_t seed, uint64_t epoch, uint64_t key) {
  check(augment, {height, width});
  SampleRandom random(seed, epoch, key);
  const Geometry drawn = draw_geometry(augment, {height, width}, random);
  const auto corners = [](const IntBox& box) { return py::make_tuple(box.x0, box.y0, box.x1, box.y1); };
  return py::make_tuple(corners(drawn.box), py::make_tuple(drawn.resized.height, drawn.resized.width),
                        corners(drawn.part), drawn.flip);
}

Indices permute(int64_t n, uint64_t seed, uint64_t epoch, int64_t start, int64_t count) {
  if (start < 0 || count < 0 || start > n || count > n - start) {
    throw Error(Reason::value, "positions " + std::to_string(start) + " to " + std::to_string(start + count) +
                                   " are outside a permutation of " + std::to_string(n));
  }
  Indices out(count);
  int64_t* data = out.mutable_data();
  {
    const py::gil_scoped_release nogil;
    const KeyedPermutation permutation(n, seed, epoch);
    for (int64_t i = 0; i < count; ++i) data[i] = permutation(start + i);
  }
  return out;
}

std::vector<double> uniforms(uint64_t seed, uint64_t epoch, uint64_t sample, int count) {
  SampleRandom random(seed, epoch, sample);
  std::vector<double> out;
  out.reserve(static_cast<size_t>(std::max(count, 0)));
  for (int i = 0; i < count; ++i) out.push_back(random.uniform());
  return out;
}

py::array_t<double> color_uniforms_of(uint64_t seed, uint64_t epoch, uint32_t view, const Indices& samples,
                                      int64_t count) {
  if (samples.ndim() != 1 || count < 0 || view >= (1U << 31)) {
    throw Error(Reason::value, "expected samples in one dimension, a view below 2^31, and no negative count");
  }
  py::array_t<double> out({static_cast<py::ssize_t>(samples.size()), static_cast<py::ssize_t>(count)});
  const int64_t* data = samples.data();
  const int64_t n = samples.size();
  double* numbers = out.mutable_data();
  without_gil([&] { color_uniforms(seed, epoch, view, data, n, count, numbers); });
  return out;
}

}  // namespace

void register_gather(py::module_& m) {
  py::class_<ThreadPool, std::shared_ptr<ThreadPool>>(m, "Pool")
      .def(py::init<int>(), py::arg("threads"))
      .def_property_readonly("threads", &ThreadPool::size);
  py::class_<Gather, std::shared_ptr<Gather>>(m, "Gather")
      .def(py::init(&make_gather), py::arg("rows").none(false), py::arg("read"), py::kw_only(),
           py::arg("augment") = AugmentSpec{}, py::arg("output") = OutputSpec{}, py::arg("variants") = 1,
           py::arg("variant_choice") = "draw", py::arg("skip_damaged") = false,
           py::arg("candidates") = std::vector<int64_t>{})
      .def("__len__", &Gather::samples)
      .def_property_readonly("sample_bytes", &Gather::sample_bytes)
      .def_property_readonly("sample_size",
                             [](const Gather& gather) {
                               const ImageSize size = gather.sample_size();
                               return std::make_pair(size.height, size.width);
                             })
      .def("run", &run, py::arg("indices"), py::arg("seed"), py::arg("epoch"), py::arg("out"), py::arg("pool"));
  m.def("geometry", &geometry, py::arg("augment"), py::arg("height"), py::arg("width"), py::arg("seed"),
        py::arg("epoch"), py::arg("key"));
  m.def("permute", &permute, py::arg("n"), py::arg("seed"), py::arg("epoch"), py::arg("start"), py::arg("count"));
  m.def("philox", &philox4x32, py::arg("counter"), py::arg("key"), py::call_guard<py::gil_scoped_release>());
  m.def("color_uniforms", &color_uniforms_of, py::arg("seed"), py::arg("epoch"), py::arg("view"), py::arg("samples"),
        py::arg("count"));
  m.def("uniforms", &uniforms, py::arg("seed"), py::arg("epoch"), py::arg("sample"), py::arg("count"),
        py::call_guard<py::gil_scoped_release>());
}

}  // namespace lds
