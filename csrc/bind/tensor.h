// Exchanges tensors with torch by DLPack. Its ABI is the same in every version of torch, so the extension is not
// compiled against torch, and one binary works with all versions.
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

// The dtype with torch's name "uint8" to "complex128". Error(Reason::value) for another name.
dlpack::DataType dtype_named(const std::string& name);
std::string name_of(dlpack::DataType dtype);

// The number of bytes. Error(Reason::value) for a negative size, or if the result exceeds int64.
int64_t tensor_bytes(const std::vector<int64_t>& shape, dlpack::DataType dtype);

// A torch.Tensor of `data`, contiguous unless `strides` (in elements) are given. Its storage owns `memory`, and may be
// destroyed in any thread.
pybind11::object make_tensor(std::shared_ptr<void> memory, void* data, std::vector<int64_t> shape,
                             dlpack::DataType dtype, std::vector<int64_t> strides = {});

// A view of a torch.Tensor that the caller passes.
class TensorView {
 public:
  // Error(Reason::value), starting with `name`, unless it is a dense CPU tensor that does not require grad.
  TensorView(const char* name, const pybind11::handle& tensor);

  uint8_t* data() const noexcept { return static_cast<uint8_t*>(tensor_->tensor.data) + tensor_->tensor.byte_offset; }
  std::vector<int64_t> shape() const;
  std::vector<int64_t> strides() const;  // in elements
  dlpack::DataType dtype() const noexcept { return tensor_->tensor.dtype; }
  int64_t bytes() const { return tensor_bytes(shape(), dtype()); }
  bool has_strides(const std::vector<int64_t>& expected) const;  // ignores the strides of axes of size 1

  // Keeps the tensor's storage alive. It may be destroyed in any thread, without the GIL.
  std::shared_ptr<void> owner() const noexcept { return tensor_; }

 private:
  std::shared_ptr<dlpack::ManagedTensor> tensor_;
};

}  // namespace lds
