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
    bytes_.reset();  // gives back the old buffer before the new one is allocated
    capacity_ = 0;
    bytes_.reset(new uint8_t[size]);  // left uninitialised on purpose
    capacity_ = size;
  }
  // a file that became shorter meanwhile is the decoder's to report
  size_ = static_cast<size_t>(read_up_to(file.descriptor(), bytes_.get(), status.size, 0, path));
}

}  // namespace lds
