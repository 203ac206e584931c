// Decodes an image file in memory, or a box of it, to rows of pixels. The magic bytes select the codec.
#pragma once

#include <vector>

#include "codec/codec.h"
#include "codec/jpeg.h"
#include "codec/png.h"
#include "codec/webp.h"
#include "common/kept_buffer.h"

namespace lds {

struct ImageInfo {
  Format format = Format::unknown;
  int width = 0, height = 0;  // after orientation, and after set_draft
  int orientation = 1;        // EXIF orientation, 1-8; 1 if DecodeOptions ignores it
};

// Not thread-safe: use one per thread. Decompressors and buffers are reused from image to image.
class Decoder {
 public:
  // Reads the header. `data` must stay valid until read() returns. Error with reason corrupt, truncated, too_large or
  // unsupported.
  ImageInfo open(const uint8_t* data, size_t size, const DecodeOptions& options);

  // Decodes a JPEG at the smallest DCT scale that leaves at least min_width x min_height pixels, like Pillow's
  // Image.draft. Has no effect on other formats. Returns the new size.
  ImageInfo set_draft(int min_width, int min_height);

  // Decodes a JPEG at 1 / scale of its size, rounded up; scale is 1, 2, 4 or 8. Returns the new size.
  ImageInfo set_scale(int scale);

  // Replaces the orientation that open() found: 1 to 8, as in EXIF. Returns the new size.
  ImageInfo set_orientation(int orientation);

  // Error(Reason::value) if the box is empty or not inside the opened image.
  void check_box(const IntBox& box) const;

  // Decodes the box, in oriented pixels, of the opened image. Only one read() per open().
  void read(const IntBox& box, RowSink& sink);

 private:
  // Holds the decoded rows of a box until they are reoriented.
  class RowBuffer : public RowSink {
   public:
    void give_back_if_large() noexcept { lds::give_back_if_large(pixels_); }
    void begin(size_t row_bytes, int rows);
    void push(const uint8_t* row) override;
    const uint8_t* at(int x, int y, int channels) const noexcept;

   private:
    std::vector<uint8_t> pixels_;
    uint8_t* next_ = nullptr;
    size_t row_bytes_ = 0;
  };
  ImageInfo info() const noexcept;
  template <class Codec>
  void set_size(const Codec& codec);
  void read_stored(const IntBox& box, RowSink& sink);
  void read_oriented(const IntBox& box, RowSink& sink);

  JpegDecoder jpeg_;
  PngDecoder png_;
  WebpDecoder webp_;
  Format format_ = Format::unknown;
  int orientation_ = 1, channels_ = 3;
  int width_ = 0, height_ = 0;  // as stored
  bool opened_ = false;
  RowBuffer buffer_;
  std::vector<uint8_t> row_;
};

}  // namespace lds
