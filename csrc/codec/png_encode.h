// Encodes the numbers of a mask to a PNG file of grey values.
#pragma once

#include <memory>
#include <string_view>

#include "common/image_view.h"

namespace lds {

// Not thread-safe: use one per thread.
class PngEncoder {
 public:
  PngEncoder();
  ~PngEncoder();

  // `numbers` are little-endian integers of `channels` bytes, 1 or 2. The file is valid until the next call.
  // Error(Reason::value) for others; bad_alloc.
  std::string_view encode(const ConstImageView& numbers);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
