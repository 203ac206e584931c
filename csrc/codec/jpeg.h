// JPEG by libjpeg-turbo: only the part of the image that a box needs.
#pragma once

#include <memory>

#include "codec/codec.h"

namespace lds {

// Sizes and boxes are those of the file: orientation is the caller's business.
class JpegDecoder {
 public:
  JpegDecoder();
  ~JpegDecoder();

  void open(const uint8_t* data, size_t size, const DecodeOptions& options);
  int width() const noexcept;
  int height() const noexcept;

  // Picks the DCT scale (1, 1/2, 1/4, 1/8) as Pillow's draft: the smallest that leaves the given size.
  void set_draft(int min_width, int min_height);

  // Pushes the box's rows of options.channels interleaved channels.
  void read(const IntBox& box, RowSink& sink);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
