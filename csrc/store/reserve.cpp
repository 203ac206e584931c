#include "store/reserve.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/error.h"

namespace lds {

void reserve_file(const std::string& path, int64_t bytes) {
  if (bytes < 0) throw Error(Reason::value, "bytes must not be negative, found " + std::to_string(bytes));
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) throw Error(Reason::io, "can't create " + path + ": " + std::strerror(errno));
  int failure = 0;
  do {
    failure = bytes == 0 ? 0 : posix_fallocate(descriptor, 0, bytes);
  } while (failure == EINTR);
  close(descriptor);
  if (failure != 0) {
    throw Error(Reason::io,
                "can't reserve " + std::to_string(bytes) + " bytes for " + path + ": " + std::strerror(failure));
  }
}

}  // namespace lds
