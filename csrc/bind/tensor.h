// Tensors go in and out by DLPack, the exchange format that is the same in every version of torch: nothing here is
// compiled against torch, so one binary works beside all of them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lds {

namespace dlpack {  // the structs of DLPack's unversioned ABI, https://dmlc.github.io/dlpack/latest/c_api.html

enum DeviceType : int32_t { kCpu = 1, kCudaHost = 3 };
enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6 };

struct Device {
  int32_t type = kCpu;
  int32_t id = 0;
};
struct DataType {
  uint8_t code = kUInt;
  uint8_t bits = 8;
  uint16_t lanes = 1;
};
struct Tensor {
  void* data = nullptr;
  Device device;
  int32_t ndim = 0;
  DataType dtype;
  int64_t* shape = nullptr;
  int64_t* strides = nullptr;  // in elements; nullptr: contiguous
  uint64_t byte_offset = 0;
};
struct ManagedTensor {
  Tensor tensor;
  void* context = nullptr;
  void (*deleter)(ManagedTensor*) = nullptr;
};

}  // namespace dlpack

// A dtype by torch's name for it, "uint8" to "complex128". Error(Reason::value) for another word.
dlpack::DataType dtype_named(const std::string& name);
std::string name_of(dlpack::DataType dtype);

// Error(Reason::value) for a negative size, or one too large to count.
int64_t tensor_bytes(const std::vector<int64_t>& shape, dlpack::DataType dtype);

// A torch.Tensor over `data`, contiguous unless `strides` (in elements) say otherwise. Its storage holds `memory` until
// the last tensor over it goes, in whichever thread.
pybind11::object make_tensor(std::shared_ptr<void> memory, void* data, std::vector<int64_t> shape,
                             dlpack::DataType dtype, std::vector<int64_t> strides = {});

// A tensor of the caller's, as the core needs it.
class TensorView {
 public:
  // Error(Reason::value), beginning with `name`, unless it is a dense torch.Tensor on the CPU that needs no gradient.
  TensorView(const char* name, const pybind11::handle& tensor);

  uint8_t* data() const noexcept { return static_cast<uint8_t*>(tensor_->tensor.data) + tensor_->tensor.byte_offset; }
  std::vector<int64_t> shape() const;
  std::vector<int64_t> strides() const;  // in elements
  dlpack::DataType dtype() const noexcept { return tensor_->tensor.dtype; }
  int64_t bytes() const { return tensor_bytes(shape(), dtype()); }
  bool has_strides(const std::vector<int64_t>& expected) const;  // where an axis of one element may have any

  // Keeps the tensor's storage; may go in any thread, without the GIL.
  std::shared_ptr<void> owner() const noexcept { return tensor_; }

 private:
  std::shared_ptr<dlpack::ManagedTensor> tensor_;
};

}  // namespace lds
