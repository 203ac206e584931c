// Binds Gather, the thread pool, and the random numbers that order and augmentation use.
#include <pybind11/stl.h>

#include <algorithm>
#include <tuple>

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
    throw Error(Reason::value, "raw images are in Rows, JPEG files in EncodedRows, and several sources in ConcatRows");
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

Picture make_picture(const std::shared_ptr<RowSource>& rows, const ReadSpec& read, const OutputSpec& output) {
  check_rows(*rows, read);
  return {rows, read, output};
}

std::shared_ptr<Gather> make_gather(const std::vector<Picture>& pictures, const std::vector<AugmentSpec>& views,
                                    int variants, const std::string& variant_choice, bool skip_damaged,
                                    const std::vector<int64_t>& candidates) {
  return std::make_shared<Gather>(
      pictures, GatherSpec{views, variants, variant_choice_named(variant_choice), {skip_damaged, candidates}});
}

// (C, H, W) of a sample in each part of a batch.
std::vector<std::tuple<int, int, int>> sample_shapes(const Gather& gather) {
  std::vector<std::tuple<int, int, int>> shapes;
  shapes.reserve(gather.parts());
  for (size_t part = 0; part < gather.parts(); ++part) {
    const ImageSize size = gather.sample_size(part);
    shapes.emplace_back(gather.picture(part).read.images.channels, size.height, size.width);
  }
  return shapes;
}

int64_t sample_bytes(const Gather& gather) {
  int64_t bytes = 0;
  for (size_t part = 0; part < gather.parts(); ++part) bytes += gather.sample_bytes(part);
  return bytes;
}

void run(const Gather& gather, const Indices& indices, uint64_t seed, uint64_t epoch,
         const std::vector<py::object>& out, ThreadPool& pool) {
  if (indices.ndim() != 1)
    throw Error(Reason::value, "indices: expected one dimension, found " + std::to_string(indices.ndim()));
  if (out.size() != gather.parts()) {
    throw Error(Reason::value,
                "out: expected " + std::to_string(gather.parts()) + " tensors, found " + std::to_string(out.size()));
  }
  std::vector<TensorView> tensors;
  std::vector<uint8_t*> parts;
  tensors.reserve(out.size());
  parts.reserve(out.size());
  for (const py::object& tensor : out) {
    const TensorView& part = tensors.emplace_back("out", tensor);
    check_part(gather, parts.size(), indices.size(), part);
    if (!is_writable(part.data(), part.bytes()))
      throw Error(Reason::value, "out: expected a tensor that may be written to, found one over read-only memory");
    parts.push_back(part.data());
  }
  const SampleList samples{indices.data(), nullptr, indices.size(), seed, epoch};
  without_gil([&] {
    gather.read_ahead(samples);
    gather.run(samples, parts, pool);
  });
}

// (box, size of the resized box, part of it, flip, vertical flip) of a view of a sample: what a Gather draws, for
// images of one size.
py::tuple geometry(const AugmentSpec& augment, int height, int width, uint64_t seed, uint64_t epoch, uint64_t key,
                   uint32_t view) {
  check(augment, {height, width});
  SampleRandom random(seed, epoch, key, view);
  const Geometry drawn = draw_geometry(augment, {height, width}, random);
  const auto corners = [](const IntBox& box) { return py::make_tuple(box.x0, box.y0, box.x1, box.y1); };
  return py::make_tuple(corners(drawn.box), py::make_tuple(drawn.resized.height, drawn.resized.width),
                        corners(drawn.part), drawn.flip, drawn.vertical_flip);
}

// (x, y, flip, vertical flip) of the box that each sample of a view shows, where nothing is resized: what a Gather
// draws for these keys. Error(Reason::value) where something is.
py::array_t<int32_t> boxes(const AugmentSpec& augment, int height, int width, uint64_t seed, uint64_t epoch,
                           const Indices& keys, uint32_t view) {
  check(augment, {height, width});
  py::array_t<int32_t> out({static_cast<py::ssize_t>(keys.size()), py::ssize_t{4}});
  int32_t* box = out.mutable_data();
  const SampleList samples{keys.data(), nullptr, keys.size(), seed, epoch};
  without_gil([&] {
    for (int64_t i = 0; i < samples.n; ++i, box += 4) {
      SampleRandom random = samples.random(i, view);
      const Geometry drawn = draw_geometry(augment, {height, width}, random);
      if (drawn.resizes()) throw Error(Reason::value, "the box of a sample is resized");
      box[0] = drawn.box.x0;
      box[1] = drawn.box.y0;
      box[2] = drawn.flip ? 1 : 0;
      box[3] = drawn.vertical_flip ? 1 : 0;
    }
  });
  return out;
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

std::vector<double> uniforms(uint64_t seed, uint64_t epoch, uint64_t sample, int count, uint32_t view) {
  SampleRandom random(seed, epoch, sample, view);
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
  py::class_<Picture>(m, "Picture")
      .def(py::init(&make_picture), py::arg("rows").none(false), py::arg("read"), py::arg("output") = OutputSpec{});
  py::class_<Gather, std::shared_ptr<Gather>>(m, "Gather")
      .def(py::init(&make_gather), py::arg("pictures"), py::kw_only(),
           py::arg("views") = std::vector<AugmentSpec>{AugmentSpec{}}, py::arg("variants") = 1,
           py::arg("variant_choice") = "draw", py::arg("skip_damaged") = false,
           py::arg("candidates") = std::vector<int64_t>{})
      .def("__len__", &Gather::samples)
      .def_property_readonly("sample_bytes", &sample_bytes)
      .def_property_readonly("sample_shapes", &sample_shapes)
      .def("run", &run, py::arg("indices"), py::arg("seed"), py::arg("epoch"), py::arg("out"), py::arg("pool"));
  m.def("geometry", &geometry, py::arg("augment"), py::arg("height"), py::arg("width"), py::arg("seed"),
        py::arg("epoch"), py::arg("key"), py::arg("view") = 0);
  m.def("boxes", &boxes, py::arg("augment"), py::arg("height"), py::arg("width"), py::arg("seed"), py::arg("epoch"),
        py::arg("keys"), py::arg("view") = 0);
  m.def("permute", &permute, py::arg("n"), py::arg("seed"), py::arg("epoch"), py::arg("start"), py::arg("count"));
  m.def("philox", &philox4x32, py::arg("counter"), py::arg("key"), py::call_guard<py::gil_scoped_release>());
  m.def("color_uniforms", &color_uniforms_of, py::arg("seed"), py::arg("epoch"), py::arg("view"), py::arg("samples"),
        py::arg("count"));
  m.def("uniforms", &uniforms, py::arg("seed"), py::arg("epoch"), py::arg("sample"), py::arg("count"),
        py::arg("view") = 0, py::call_guard<py::gil_scoped_release>());
}

}  // namespace lds
