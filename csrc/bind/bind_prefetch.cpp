#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/gather_spec.h"
#include "bind/without_gil.h"
#include "common/error.h"
#include "gather/prefetcher.h"

namespace py = pybind11;

namespace lds {
namespace {

// Long enough to cost nothing, short enough for Ctrl-C.
constexpr std::chrono::milliseconds kPatience{100};

// What a field looks like in a batch: its rows, dtype, and shape of one value.
using FieldTuple = std::tuple<std::shared_ptr<Rows>, at::ScalarType, std::vector<int64_t>>;

std::shared_ptr<uint8_t> pinned_memory(int64_t bytes) {
  const at::Tensor tensor = at::empty({bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  return {tensor.data_ptr<uint8_t>(), [tensor](uint8_t*) {}};
}

std::shared_ptr<Ring> make_ring(int64_t slot_bytes, int slots, bool pinned) {
  return pinned ? std::make_shared<Ring>(slot_bytes, slots, pinned_memory) : std::make_shared<Ring>(slot_bytes, slots);
}

// An uninitialised tensor over a slot, which comes back when the last tensor over it goes.
at::Tensor ring_tensor(Ring& ring, const std::vector<int64_t>& shape, at::ScalarType type) {
  const int64_t bytes = tensor_bytes(shape, type);
  std::shared_ptr<uint8_t> slot;
  {
    const py::gil_scoped_release nogil;
    slot = ring.take(bytes);
  }
  return at::from_blob(slot.get(), shape, [slot](void*) {}, at::TensorOptions().dtype(type));
}

py::dict ring_stats(const Ring& ring) {
  const Ring::Stats stats = ring.stats();
  py::dict out;
  out["slots"] = stats.slots;
  out["slots_in_use"] = stats.in_use;
  out["slot_bytes"] = stats.slot_bytes;
  out["allocations"] = stats.allocations;
  return out;
}

// A Prefetcher whose batches are tensors.
class TensorPrefetcher {
 public:
  TensorPrefetcher(std::shared_ptr<Gather> gather, const std::vector<FieldTuple>& fields, std::shared_ptr<Ring> ring,
                   std::shared_ptr<ThreadPool> pool)
      : spec_(gather->spec()),
        fields_(fields),
        core_(std::move(gather), rows_of(fields), std::move(ring), std::move(pool)) {}

  void submit(const Indices& samples, const std::optional<Indices>& keys, uint64_t seed, uint64_t epoch) {
    BatchRequest request{numbers(samples), keys ? numbers(*keys) : std::vector<int64_t>{}, seed, epoch};
    const py::gil_scoped_release nogil;
    core_.submit(std::move(request));
  }

  py::tuple next() {
    // A batch that is there is taken without letting the GIL go: to have it back may take another thread's time slice.
    std::optional<Batch> batch = core_.next(std::chrono::milliseconds(0));
    while (!batch) {
      without_gil([&] { batch = core_.next(kPatience); });
      if (!batch && PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
    py::tuple out(fields_.size() + 1);
    const auto held = [slot = batch->memory](void*) {};  // by the tensors' storages, until the last view of one goes
    out[0] = at::from_blob(batch->memory.get() + batch->offsets[0], batch_shape(spec_, batch->samples),
                           batch_strides(spec_), held, scalar_type(spec_.out_type));
    for (size_t i = 0; i < fields_.size(); ++i) {
      std::vector<int64_t> shape = std::get<2>(fields_[i]);
      shape.insert(shape.begin(), batch->samples);
      out[i + 1] = at::from_blob(batch->memory.get() + batch->offsets[i + 1], shape, held, std::get<1>(fields_[i]));
    }
    return out;
  }

  void close() {
    const py::gil_scoped_release nogil;
    core_.close();
  }

  py::dict stats() const {
    const Prefetcher::Stats stats = core_.stats();
    py::dict out;
    out["batches"] = stats.batches;
    out["samples"] = stats.samples;
    out["read_ahead"] = stats.read_ahead;
    out["filling_seconds"] = stats.filling;
    out["waiting_seconds"] = stats.waiting;
    out["pending"] = stats.pending;
    out["ready"] = stats.ready;
    return out;
  }

 private:
  static std::vector<std::shared_ptr<const Rows>> rows_of(const std::vector<FieldTuple>& fields) {
    std::vector<std::shared_ptr<const Rows>> rows;
    rows.reserve(fields.size());
    for (const FieldTuple& field : fields) rows.push_back(std::get<0>(field));
    return rows;
  }

  GatherSpec spec_;
  std::vector<FieldTuple> fields_;
  Prefetcher core_;
};

// The destructor joins a thread: others may run meanwhile.
struct WithoutGil {
  void operator()(TensorPrefetcher* prefetcher) const {
    const py::gil_scoped_release nogil;
    delete prefetcher;
  }
};

}  // namespace

void register_prefetch(py::module_& m) {
  py::class_<Ring, std::shared_ptr<Ring>>(m, "Ring")
      .def(py::init(&make_ring), py::arg("slot_bytes"), py::arg("slots"), py::arg("pinned") = false)
      .def("tensor", &ring_tensor, py::arg("shape"), py::arg("dtype"))
      .def("stats", &ring_stats)
      .def("trim", &Ring::trim, py::call_guard<py::gil_scoped_release>());
  py::class_<TensorPrefetcher, std::unique_ptr<TensorPrefetcher, WithoutGil>>(m, "Prefetcher")
      .def(py::init([](const std::shared_ptr<Gather>& gather, const std::vector<FieldTuple>& fields,
                       const std::shared_ptr<Ring>& ring, const std::shared_ptr<ThreadPool>& pool) {
             return std::unique_ptr<TensorPrefetcher, WithoutGil>(new TensorPrefetcher(gather, fields, ring, pool));
           }),
           py::arg("gather"), py::arg("fields"), py::arg("ring"), py::arg("pool"))
      .def("submit", &TensorPrefetcher::submit, py::arg("samples"), py::arg("keys"), py::arg("seed"), py::arg("epoch"))
      .def("next", &TensorPrefetcher::next)
      .def("close", &TensorPrefetcher::close)
      .def("stats", &TensorPrefetcher::stats);
}

}  // namespace lds
