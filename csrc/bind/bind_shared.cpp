// Batches in memory that two processes share: a slot whose first byte says whether somebody holds it.

#include <ATen/ops/from_blob.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <atomic>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "common/error.h"

namespace py = pybind11;

namespace lds {
namespace {

constexpr uint8_t kFree = 0, kHeld = 1;

std::atomic_ref<uint8_t> state(const at::Tensor& slot) {
  if (slot.scalar_type() != at::kByte || !slot.is_contiguous() || slot.numel() < 1 || !slot.device().is_cpu()) {
    throw Error(Reason::value, "slot: expected contiguous bytes on the CPU");
  }
  return std::atomic_ref<uint8_t>(*slot.data_ptr<uint8_t>());
}

bool slot_is_free(const at::Tensor& slot) { return state(slot).load(std::memory_order_acquire) == kFree; }

void hold_slot(const at::Tensor& slot) { state(slot).store(kHeld, std::memory_order_relaxed); }

// The batch in the slot from byte `offset` on; the slot is free when the last tensor over it goes.
at::Tensor lend_slot(const at::Tensor& slot, int64_t offset, const std::vector<int64_t>& shape, at::ScalarType type) {
  state(slot);
  const int64_t bytes = tensor_bytes(shape, type);
  if (offset < 1 || bytes > slot.numel() - offset) {
    throw Error(Reason::value, "a batch of " + std::to_string(bytes) + " bytes does not fit into its slot");
  }
  return at::from_blob(
      slot.data_ptr<uint8_t>() + offset, shape, [slot](void*) { state(slot).store(kFree, std::memory_order_release); },
      at::TensorOptions().dtype(type));
}

int64_t storage_uses(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.storage().use_count()); }

}  // namespace

void register_shared(py::module_& m) {
  m.def("slot_is_free", &slot_is_free, py::arg("slot"));
  m.def("hold_slot", &hold_slot, py::arg("slot"));
  m.def("lend_slot", &lend_slot, py::arg("slot"), py::arg("offset"), py::arg("shape"), py::arg("dtype"));
  m.def("storage_uses", &storage_uses, py::arg("tensor"));
}

}  // namespace lds
