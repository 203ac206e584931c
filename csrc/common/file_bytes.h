// Reads whole files into memory. The buffer is reused from file to file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace lds {

class FileBytes {
 public:
  // Error(Reason::io) names the path and the cause.
  void read(const std::string& path);
  const uint8_t* data() const noexcept { return bytes_.get(); }
  size_t size() const noexcept { return size_; }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  size_t size_ = 0, capacity_ = 0;
};

}  // namespace lds
