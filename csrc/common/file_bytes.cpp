#include "common/file_bytes.h"

#include <algorithm>

#include "common/file.h"
#include "common/kept_buffer.h"

namespace lds {

void check_file_bytes(const std::string& path, int64_t bytes) {
  if (bytes <= kMaxFileBytes) return;
  throw Error(Reason::too_large, "'" + path + "': expected an image of at most " + std::to_string(kMaxFileBytes) +
                                     " bytes, found " + std::to_string(bytes));
}

void FileBytes::read(const std::string& path, Accepts accepts) {
  size_ = 0;
  const File file(path);
  const FileStatus status = file.status();
  if (!status.regular) throw Error(Reason::io, "can't read '" + path + "': not a regular file");
  check_file_bytes(path, status.size);
  const auto size = static_cast<size_t>(status.size);
  if (size > capacity_ || capacity_ > kKeptBytes) {
    bytes_.reset();  // first, so that the two buffers are never allocated at the same time
    capacity_ = 0;
    bytes_.reset(new uint8_t[size]);  // not make_unique, which would zero the buffer
    capacity_ = size;
  }
  // if the file became shorter in the meantime, the decoder reports it as truncated
  const int64_t head = read_up_to(file.descriptor(), bytes_.get(), std::min(status.size, kHeadBytes), 0, path);
  size_ = static_cast<size_t>(head);
  if (head < kHeadBytes || !accepts(bytes_.get(), size_)) return;
  size_ += static_cast<size_t>(read_up_to(file.descriptor(), bytes_.get() + head, status.size - head, head, path));
}

}  // namespace lds
