// Decodes JPEG files with libjpeg-turbo. Only the part of the image that a box needs is decoded.
#pragma once

#include <memory>

#include "codec/codec.h"

namespace lds {

// Sizes and boxes refer to the stored image; the caller applies the EXIF orientation.
class JpegDecoder {
 public:
  JpegDecoder();
  ~JpegDecoder();

  void open(const uint8_t* data, size_t size, const DecodeOptions& options);
  int width() const noexcept;
  int height() const noexcept;

  // Chooses the DCT scale (1, 1/2, 1/4, 1/8) like Pillow's Image.draft: the smallest that leaves at least this size.
  void set_draft(int min_width, int min_height);

  // Sets the DCT scale to 1 / scale, for a scale of 1, 2, 4 or 8.
  void set_scale(int scale);

  // Pushes the box's rows of options.channels interleaved channels.
  void read(const IntBox& box, RowSink& sink);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
