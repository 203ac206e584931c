// Decodes WebP files with libwebp: a still image, or the first frame of an animation on its canvas.
#pragma once

#include <memory>

#include "codec/codec.h"

namespace lds {

class WebpDecoder {
 public:
  WebpDecoder();
  ~WebpDecoder();

  void open(const uint8_t* data, size_t size, const DecodeOptions& options);
  int width() const noexcept;
  int height() const noexcept;
  int orientation() const noexcept;  // 1-8; from EXIF, else from XMP

  // Pushes the box's rows of options.channels interleaved channels.
  void read(const IntBox& box, RowSink& sink);

  void give_back_large_buffers() noexcept;  // between images

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
