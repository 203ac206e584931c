// Reads whole image files into memory. The buffer is reused from file to file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace lds {

// The largest image file that is read. A larger one is an attack, or no image: sparse files of any size are easy to
// make.
constexpr int64_t kMaxFileBytes = int64_t{1} << 30;

class FileBytes {
 public:
  // Whether a file with these first bytes is to be read. `size` is kHeadBytes, or less for a shorter file.
  static constexpr int64_t kHeadBytes = int64_t{64} << 10;
  using Accepts = bool (*)(const uint8_t* head, size_t size);

  // Reads the whole file, or only its first kHeadBytes if they are not accepted. Error(Reason::io) names the path and
  // the cause; Error(Reason::too_large) above kMaxFileBytes.
  void read(const std::string& path, Accepts accepts);
  const uint8_t* data() const noexcept { return bytes_.get(); }
  size_t size() const noexcept { return size_; }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  size_t size_ = 0, capacity_ = 0;
};

// Error(Reason::too_large) above kMaxFileBytes.
void check_file_bytes(const std::string& path, int64_t bytes);

}  // namespace lds
