// Binds slots in memory that two processes share. The first byte of a slot is its reference count.
#include <pybind11/stl.h>

#include <string>

#include "bind/bind.h"
#include "bind/tensor.h"
#include "common/error.h"

namespace py = pybind11;

namespace lds {
namespace {

// The reference count of a slot. It uses compiler builtins, because libc++ has no std::atomic_ref before 19.
uint8_t* count_of(const TensorView& slot) {
  const dlpack::DataType dtype = slot.dtype();
  if (dtype.code != dlpack::kUInt || dtype.bits != 8 || slot.shape().size() != 1 || slot.bytes() < 1 ||
      !slot.has_strides({1})) {
    throw Error(Reason::value, "slot: expected contiguous bytes");
  }
  return slot.data();
}

bool slot_is_free(const py::handle& slot) {
  return __atomic_load_n(count_of(TensorView("slot", slot)), __ATOMIC_ACQUIRE) == 0;
}

// Increments the reference count, for a process that fills the slot or is about to receive it.
void hold_slot(const py::handle& slot) {
  __atomic_fetch_add(count_of(TensorView("slot", slot)), uint8_t{1}, __ATOMIC_RELAXED);
}

// A tensor in the slot from byte `offset` on. It takes over a reference that is already counted, and decrements the
// count when its storage is destroyed.
py::object slot_tensor(const py::handle& slot, int64_t offset, const std::vector<int64_t>& shape,
                       const std::string& dtype) {
  const TensorView view("slot", slot);
  uint8_t* count = count_of(view);
  const dlpack::DataType type = dtype_named(dtype);
  const int64_t bytes = tensor_bytes(shape, type);
  if (offset < 1 || bytes > view.bytes() - offset) {
    throw Error(Reason::value, "a batch of " + std::to_string(bytes) + " bytes at byte " + std::to_string(offset) +
                                   " does not fit into a slot of " + std::to_string(view.bytes()) + " bytes");
  }
  const std::shared_ptr<void> reference(
      count, [owner = view.owner()](uint8_t* counter) { __atomic_fetch_sub(counter, uint8_t{1}, __ATOMIC_RELEASE); });
  return make_tensor(reference, count + offset, shape, type);
}

}  // namespace

void register_shared(py::module_& m) {
  m.def("slot_is_free", &slot_is_free, py::arg("slot"));
  m.def("hold_slot", &hold_slot, py::arg("slot"));
  m.def("slot_tensor", &slot_tensor, py::arg("slot"), py::arg("offset"), py::arg("shape"), py::arg("dtype"));
}

}  // namespace lds
