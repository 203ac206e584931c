#include <pybind11/stl.h>

#include <algorithm>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/gather_spec.h"
#include "bind/tensor.h"
#include "bind/without_gil.h"
#include "common/error.h"
#include "common/random.h"

namespace py = pybind11;

namespace lds {
namespace {

void run(const Gather& gather, const Indices& indices, uint64_t seed, uint64_t epoch, const py::handle& out,
         ThreadPool& pool) {
  if (indices.ndim() != 1) throw Error(Reason::value, "indices: expected one dimension");
  const TensorView batch("out", out);
  check_batch(gather.spec(), indices.size(), batch);
  const int64_t* wanted = indices.data();
  const int64_t n = indices.size();
  uint8_t* data = batch.data();
  without_gil([&] {
    gather.read_ahead(wanted, nullptr, n, seed, epoch);
    gather.run(wanted, nullptr, n, seed, epoch, data, pool);
  });
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

}  // namespace

void register_gather(py::module_& m) {
  py::class_<ThreadPool, std::shared_ptr<ThreadPool>>(m, "Pool")
      .def(py::init<int>(), py::arg("threads"))
      .def_property_readonly("threads", &ThreadPool::size);
  py::class_<Gather, std::shared_ptr<Gather>>(m, "Gather")
      .def(py::init([](const std::shared_ptr<Rows>& rows, const py::kwargs& words) {
             return std::make_shared<Gather>(rows, gather_spec(words));
           }),
           py::arg("rows"))
      .def("__len__", &Gather::samples)
      .def_property_readonly("sample_bytes", &Gather::sample_bytes)
      .def("run", &run, py::arg("indices"), py::arg("seed"), py::arg("epoch"), py::arg("out"), py::arg("pool"));
  m.def("check_sample", [](const py::kwargs& words) { check(gather_spec(words)); });
  m.def("permute", &permute, py::arg("n"), py::arg("seed"), py::arg("epoch"), py::arg("start"), py::arg("count"));
  m.def("philox", &philox4x32, py::arg("counter"), py::arg("key"), py::call_guard<py::gil_scoped_release>());
  m.def("uniforms", &uniforms, py::arg("seed"), py::arg("epoch"), py::arg("sample"), py::arg("count"),
        py::call_guard<py::gil_scoped_release>());
}

}  // namespace lds
