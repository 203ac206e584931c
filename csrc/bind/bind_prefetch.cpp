// Binds Ring and Prefetcher, whose memory becomes tensors.
#include <pybind11/stl.h>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/initialised.h"
#include "bind/specs.h"
#include "bind/tensor.h"
#include "bind/without_gil.h"
#include "common/error.h"
#include "common/fork_local.h"
#include "loading/prefetcher.h"

namespace py = pybind11;

namespace lds {
namespace {

// How often next() checks for Ctrl-C while it waits: rarely enough to cost nothing, often enough to feel immediate.
constexpr std::chrono::milliseconds kSignalPeriod{100};

constexpr const char* kForked =
    "an iterator of a Loader can't be used in a forked process: create a new iterator there";

// A field of a batch: its rows, its dtype, and the shape of a single value.
using FieldTuple = std::tuple<std::shared_ptr<FixedRows>, std::string, std::vector<int64_t>>;

// Memory that torch has pinned. torch also caches pinned memory that is freed. Takes the GIL.
std::shared_ptr<uint8_t> pinned_memory(int64_t bytes) {
  const py::gil_scoped_acquire gil;
  const py::module_ torch = py::module_::import("torch");
  const TensorView pinned("pinned memory", torch.attr("empty")(bytes, py::arg("dtype") = torch.attr("uint8"),
                                                               py::arg("pin_memory") = true));
  return {pinned.data(), [owner = pinned.owner()](uint8_t*) {}};
}

// A Ring whose slots become tensors.
class TensorRing {
 public:
  TensorRing(int64_t slot_bytes, int slots, bool pinned)
      : pinned_(pinned), core_(std::make_shared<Ring>(slot_bytes, slots, pinned ? pinned_memory : page_memory)) {}

  bool pinned() const noexcept { return pinned_; }
  const std::shared_ptr<Ring>& core() const noexcept { return core_; }

  // An uninitialised tensor in a slot, which returns to the ring when its last tensor is destroyed.
  py::object tensor(const std::vector<int64_t>& shape, const std::string& dtype) const {
    const dlpack::DataType type = dtype_named(dtype);
    const int64_t bytes = tensor_bytes(shape, type);
    std::shared_ptr<uint8_t> slot;
    {
      const py::gil_scoped_release nogil;
      slot = core_->take(bytes);
    }
    uint8_t* data = slot.get();
    return make_tensor(std::move(slot), data, shape, type);
  }

  py::dict stats() const {
    const Ring::Stats stats = core_->stats();
    py::dict out;
    out["slots"] = stats.slots;
    out["slots_in_use"] = stats.in_use;
    out["slot_bytes"] = stats.slot_bytes;
    out["allocations"] = stats.allocations;
    return out;
  }

  void trim() const {
    const py::gil_scoped_release nogil;
    core_->trim();
  }

 private:
  bool pinned_;
  std::shared_ptr<Ring> core_;
};

}  // namespace
}  // namespace lds

template <>
class pybind11::detail::type_caster<lds::TensorRing> : public lds::InitialisedCaster<lds::TensorRing> {};

namespace lds {
namespace {

// A Prefetcher that returns batches as tensors.
class TensorPrefetcher {
 public:
  TensorPrefetcher(std::shared_ptr<Gather> gather, const std::vector<FieldTuple>& fields, const TensorRing& ring,
                   std::shared_ptr<ThreadPool> pool, int at_once)
      : gather_(gather),
        fields_(fields),
        ring_(ring),
        core_(std::make_unique<Prefetcher>(std::move(gather), rows_of(fields), ring.core(), std::move(pool), at_once)) {
    for (const auto& [rows, dtype, shape] : fields) {
      types_.push_back(dtype_named(dtype));
      if (tensor_bytes(shape, types_.back()) != rows->row_bytes()) {
        throw Error(Reason::value, "rows of " + std::to_string(rows->row_bytes()) + " bytes hold no values of dtype " +
                                       dtype + " and the given shape");
      }
    }
  }

  void submit(const Indices& samples, const std::optional<Indices>& keys, uint64_t seed, uint64_t epoch) {
    BatchRequest request{to_vector(samples), keys ? to_vector(*keys) : std::vector<int64_t>{}, seed, epoch, nullptr};
    // Pinned memory is allocated by torch, which needs the GIL, so it is taken here. The threads that fill the batch
    // must never wait for the GIL: its holder may be waiting for that batch, or may be finalising the interpreter.
    Prefetcher& core = core_.get(kForked);
    if (ring_.pinned()) request.memory = ring_.core()->take(core.batch_bytes(samples.size()));
    const py::gil_scoped_release nogil;
    core.submit(std::move(request));
  }

  py::tuple next() {
    Prefetcher& core = core_.get(kForked);
    // First tries without releasing the GIL, because re-acquiring it can cost a scheduler time slice.
    std::optional<Batch> batch = core.next(std::chrono::milliseconds(0));
    while (!batch) {
      without_gil([&] { batch = core.next(kSignalPeriod); });
      if (!batch && PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
    const size_t parts = gather_->parts();
    py::tuple out(parts + fields_.size());
    const auto data = [&](size_t i) { return batch->memory.get() + batch->offsets[i]; };
    for (size_t i = 0; i < parts; ++i) {
      out[i] = make_tensor(batch->memory, data(i), part_shape(*gather_, i, batch->samples),
                           dtype_of(gather_->picture(i).output.type), part_strides(*gather_, i));
    }
    for (size_t i = 0; i < fields_.size(); ++i) {
      std::vector<int64_t> shape = std::get<2>(fields_[i]);
      shape.insert(shape.begin(), batch->samples);
      out[parts + i] = make_tensor(batch->memory, data(parts + i), std::move(shape), types_[i]);
    }
    return out;
  }

  void close() {
    const py::gil_scoped_release nogil;
    if (Prefetcher* core = core_.find()) core->close();
  }

  py::dict stats() const {
    const Prefetcher::Stats stats = core_.get(kForked).stats();
    py::dict out;
    out["batches"] = stats.batches;
    out["samples"] = stats.samples;
    out["replaced"] = stats.replaced;
    out["damage"] = text_of(stats.damage);
    out["read_ahead"] = stats.read_ahead;
    out["filling_seconds"] = stats.fill_seconds;
    out["waiting_seconds"] = stats.wait_seconds;
    out["waits"] = stats.waits;
    out["longest_wait_seconds"] = stats.longest_wait_seconds;
    out["pending"] = stats.pending;
    out["ready"] = stats.ready;
    return out;
  }

 private:
  static std::vector<std::shared_ptr<const FixedRows>> rows_of(const std::vector<FieldTuple>& fields) {
    std::vector<std::shared_ptr<const FixedRows>> rows;
    rows.reserve(fields.size());
    for (const FieldTuple& field : fields) {
      if (!std::get<0>(field)) throw Error(Reason::value, "fields: expected rows, found None");
      rows.push_back(std::get<0>(field));
    }
    return rows;
  }

  std::shared_ptr<const Gather> gather_;
  std::vector<FieldTuple> fields_;
  std::vector<dlpack::DataType> types_;  // of the fields
  TensorRing ring_;
  ProcessOwned<Prefetcher> core_;
};

// Deletes without the GIL, so that other Python threads can run while the destructor joins its thread.
struct WithoutGil {
  void operator()(TensorPrefetcher* prefetcher) const {
    const py::gil_scoped_release nogil;
    delete prefetcher;
  }
};

}  // namespace
}  // namespace lds

template <>
class pybind11::detail::type_caster<lds::TensorPrefetcher> : public lds::InitialisedCaster<lds::TensorPrefetcher> {};

namespace lds {

void register_prefetch(py::module_& m) {
  py::class_<TensorRing>(m, "Ring")
      .def(py::init<int64_t, int, bool>(), py::arg("slot_bytes"), py::arg("slots"), py::arg("pinned") = false)
      .def("tensor", &TensorRing::tensor, py::arg("shape"), py::arg("dtype"))
      .def("stats", &TensorRing::stats)
      .def("trim", &TensorRing::trim);
  py::class_<TensorPrefetcher, std::unique_ptr<TensorPrefetcher, WithoutGil>>(m, "Prefetcher")
      .def(py::init([](const std::shared_ptr<Gather>& gather, const std::vector<FieldTuple>& fields,
                       const TensorRing& ring, const std::shared_ptr<ThreadPool>& pool, int at_once) {
             return std::unique_ptr<TensorPrefetcher, WithoutGil>(
                 new TensorPrefetcher(gather, fields, ring, pool, at_once));
           }),
           py::arg("gather").none(false), py::arg("fields"), py::arg("ring"), py::arg("pool").none(false),
           py::arg("at_once") = 0)
      .def("submit", &TensorPrefetcher::submit, py::arg("samples"), py::arg("keys"), py::arg("seed"), py::arg("epoch"))
      .def("next", &TensorPrefetcher::next)
      .def("close", &TensorPrefetcher::close)
      .def("stats", &TensorPrefetcher::stats);
}

}  // namespace lds
