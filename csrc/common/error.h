// The core throws one exception class, Error: a reason that code can act on, and a message for the user.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace lds {

enum class Reason : uint8_t {
  value,        // an argument is wrong
  index,        // a row number outside the store
  io,           // a system call failed (open, read, map, reserve)
  corrupt,      // the bytes of an image violate its format
  truncated,    // the bytes of an image end early
  too_large,    // an image with more than max_pixels, a file of too many bytes, or too little memory for it
  unsupported,  // a format or feature that the core does not decode, but Pillow might
  shape,        // the shape of an image differs from that of the store's rows
  store,        // a file of a store is short, damaged, or not part of a store
  cancelled,    // the caller cancelled the work
  internal,     // a bug in the core
};

// The name of a reason. Names are stable: samples.parquet and reports contain them.
const char* reason_name(Reason reason) noexcept;

class Error : public std::runtime_error {
 public:
  Error(Reason reason, const std::string& message) : std::runtime_error(message), reason_(reason) {}
  Reason reason() const noexcept { return reason_; }

 private:
  Reason reason_;
};

}  // namespace lds
