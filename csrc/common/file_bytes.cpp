#include "common/file_bytes.h"

#include "common/file.h"

namespace lds {

void FileBytes::read(const std::string& path) {
  size_ = 0;
  const File file(path);
  const FileStatus status = file.status();
  if (!status.regular) throw Error(Reason::io, "can't read '" + path + "': not a regular file");
  const auto size = static_cast<size_t>(status.size);
  if (size > capacity_) {
    bytes_.reset();  // first, so that the two buffers are never allocated at the same time
    capacity_ = 0;
    bytes_.reset(new uint8_t[size]);  // not make_unique, which would zero the buffer
    capacity_ = size;
  }
  // if the file became shorter in the meantime, the decoder reports it as truncated
  size_ = static_cast<size_t>(read_up_to(file.descriptor(), bytes_.get(), status.size, 0, path));
}

}  // namespace lds
