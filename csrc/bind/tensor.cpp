#include "bind/tensor.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "common/error.h"

namespace py = pybind11;

namespace lds {
namespace {

constexpr const char* kCapsule = "dltensor";
constexpr const char* kUsedCapsule = "used_dltensor";

struct NamedType {
  std::string_view name;
  dlpack::DataType dtype;
};
constexpr std::array kTypes = {NamedType{"bool", {dlpack::kBool, 8}},
                               NamedType{"uint8", {dlpack::kUInt, 8}},
                               NamedType{"int8", {dlpack::kInt, 8}},
                               NamedType{"uint16", {dlpack::kUInt, 16}},
                               NamedType{"int16", {dlpack::kInt, 16}},
                               NamedType{"uint32", {dlpack::kUInt, 32}},
                               NamedType{"int32", {dlpack::kInt, 32}},
                               NamedType{"uint64", {dlpack::kUInt, 64}},
                               NamedType{"int64", {dlpack::kInt, 64}},
                               NamedType{"float16", {dlpack::kFloat, 16}},
                               NamedType{"bfloat16", {dlpack::kBfloat, 16}},
                               NamedType{"float32", {dlpack::kFloat, 32}},
                               NamedType{"float64", {dlpack::kFloat, 64}},
                               NamedType{"complex64", {dlpack::kComplex, 64}},
                               NamedType{"complex128", {dlpack::kComplex, 128}}};

// Owned by a tensor's storage: the memory, and the arrays that the DLPack struct points to.
struct StorageOwner {
  dlpack::ManagedTensor managed;
  std::shared_ptr<void> memory;
  std::vector<int64_t> shape, strides;

  static void destroy(dlpack::ManagedTensor* managed) { delete static_cast<StorageOwner*>(managed->context); }
};

// The destructor of a capsule. torch renames a capsule that it consumes, and then owns the tensor.
void destroy_capsule(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, kCapsule) == 0) return;
  auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, kCapsule));
  managed->deleter(managed);
}

// Imports the function once and keeps it. `found` can't be a static local with an initialiser: the import may release
// the GIL while it holds the guard of the local, and another thread would then deadlock. The function of torch's core
// is taken where it is there, since in the public one, which is written in Python, a signal handler may run and raise:
// the batch that is being given would be lost.
py::handle torch_function(const char* name, py::handle& found) {
  if (!found) {
    const std::string core_name = std::string("_") + name;
    const py::object core = py::module_::import("torch._C");
    const bool in_core = py::hasattr(core, core_name.c_str());
    const py::object from = in_core ? core : py::object(py::module_::import("torch.utils.dlpack"));
    found = py::object(from.attr(in_core ? core_name.c_str() : name)).release();
  }
  return found;
}

py::handle from_dlpack() {
  static py::handle found;
  return torch_function("from_dlpack", found);
}

py::handle to_dlpack() {
  static py::handle found;
  return torch_function("to_dlpack", found);
}

std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<int64_t>(shape[i], 1);
  return strides;
}

}  // namespace

dlpack::DataType dtype_named(const std::string& name) {
  const auto* found = std::find_if(kTypes.begin(), kTypes.end(), [&](const NamedType& t) { return t.name == name; });
  if (found == kTypes.end())
    throw Error(Reason::value, "dtype: expected the name of a torch dtype, found '" + name + "'");
  return found->dtype;
}

std::string name_of(dlpack::DataType dtype) {
  for (const NamedType& type : kTypes) {
    if (type.dtype.code == dtype.code && type.dtype.bits == dtype.bits && dtype.lanes == 1) {
      return std::string(type.name);
    }
  }
  return "another dtype";
}

int64_t tensor_bytes(const std::vector<int64_t>& shape, dlpack::DataType dtype) {
  int64_t bytes = dtype.bits / 8;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) {
      throw Error(Reason::value, "shape: expected sizes of at least 0 and a total that fits 64 bits, found a size of " +
                                     std::to_string(size));
    }
  }
  return bytes;
}

py::object make_tensor(std::shared_ptr<void> memory, void* data, std::vector<int64_t> shape, dlpack::DataType dtype,
                       std::vector<int64_t> strides) {
  auto owner = std::make_unique<StorageOwner>();
  owner->memory = std::move(memory);
  owner->strides = strides.empty() ? contiguous_strides(shape) : std::move(strides);
  owner->shape = std::move(shape);
  owner->managed.tensor = {
      data, {}, static_cast<int32_t>(owner->shape.size()), dtype, owner->shape.data(), owner->strides.data(), 0};
  owner->managed.context = owner.get();
  owner->managed.deleter = &StorageOwner::destroy;
  const auto capsule = py::reinterpret_steal<py::object>(PyCapsule_New(&owner->managed, kCapsule, &destroy_capsule));
  if (!capsule) throw py::error_already_set();
  static_cast<void>(owner.release());  // owned by the capsule, and then by the tensor's storage
  return from_dlpack()(capsule);
}

TensorView::TensorView(const char* name, const py::handle& tensor) {
  const std::string expected = std::string(name) + ": expected a dense tensor on the CPU";
  if (!py::hasattr(tensor, "is_cpu") || !py::hasattr(tensor, "requires_grad")) {
    throw Error(Reason::value, expected + ", found " + py::cast<std::string>(py::repr(py::type::handle_of(tensor))));
  }
  if (!tensor.attr("is_cpu").cast<bool>()) {
    throw Error(Reason::value, expected + ", found one on " + py::cast<std::string>(py::str(tensor.attr("device"))));
  }
  if (tensor.attr("requires_grad").cast<bool>()) {
    throw Error(Reason::value, std::string(name) + ": expected a tensor that does not require grad");
  }
  py::object capsule;
  try {
    capsule = to_dlpack()(tensor);
  } catch (const py::error_already_set& error) {
    throw Error(Reason::value, expected + ": " + error.what());
  }
  auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kCapsule));
  if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), kUsedCapsule) != 0) throw py::error_already_set();
  tensor_ = {managed, [](dlpack::ManagedTensor* taken) { taken->deleter(taken); }};
}

std::vector<int64_t> TensorView::shape() const {
  const dlpack::Tensor& tensor = tensor_->tensor;
  return {tensor.shape, tensor.shape + tensor.ndim};
}

std::vector<int64_t> TensorView::strides() const {
  const dlpack::Tensor& tensor = tensor_->tensor;
  if (tensor.strides == nullptr) return contiguous_strides(shape());
  return {tensor.strides, tensor.strides + tensor.ndim};
}

bool TensorView::has_strides(const std::vector<int64_t>& expected) const {
  const std::vector<int64_t> sizes = shape(), found = strides();
  if (found.size() != expected.size()) return false;
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return true;
  for (size_t i = 0; i < found.size(); ++i) {
    if (sizes[i] > 1 && found[i] != expected[i]) return false;
  }
  return true;
}

}  // namespace lds
