// Every failure in the core is an Error: a reason that code can act on, and a sentence for the person.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace lds {

enum class Reason : uint8_t {
  value,        // an argument is wrong
  index,        // a row number outside the store
  io,           // the operating system refused (open, read, map, reserve)
  corrupt,      // the bytes of an image break its format's rules
  truncated,    // the bytes of an image end early
  too_large,    // an image of more pixels than max_pixels, of too many bytes, or for which memory is too short
  unsupported,  // a format or feature that this core does not decode; Pillow may
  shape,        // an image of another shape than the store's rows
  store,        // a store's file is short, foreign or damaged
  cancelled,    // the caller asked to stop
  internal,     // a bug
};

// The stable word for a reason, as it stands in samples.parquet and in reports.
const char* reason_name(Reason reason) noexcept;

class Error : public std::runtime_error {
 public:
  Error(Reason reason, const std::string& message) : std::runtime_error(message), reason_(reason) {}
  Reason reason() const noexcept { return reason_; }

 private:
  Reason reason_;
};

}  // namespace lds
