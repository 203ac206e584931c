// Encodes pixels to a JPEG file: baseline, 4:2:0, the standard Huffman tables, a restart marker each row of MCUs.
#pragma once

#include <memory>
#include <string_view>

#include "common/image_view.h"

namespace lds {

// Not thread-safe: use one per thread.
class JpegEncoder {
 public:
  JpegEncoder();
  ~JpegEncoder();

  // `pixels` are interleaved, of 1 (grey) or 3 (RGB) channels; `quality` is libjpeg's, 1 to 100. The file is valid
  // until the next call. Error(Reason::too_large) for a side that no JPEG file has; bad_alloc.
  std::string_view encode(const ConstImageView& pixels, int quality);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
