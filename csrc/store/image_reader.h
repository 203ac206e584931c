// Reads the pixels of a box from a row of the store.
#pragma once

#include <memory>

#include "convert/image_layout.h"
#include "store/row_source.h"

namespace lds {

// Not thread-safe: use one per thread.
class ImageReader {
 public:
  ImageReader() = default;
  virtual ~ImageReader() = default;
  ImageReader(const ImageReader&) = delete;
  ImageReader& operator=(const ImageReader&) = delete;

  // Opens the image in a row and returns its size. The row must stay valid until the next open().
  virtual ImageSize open(const Extent& row) = 0;

  // The pixels of a box inside the opened image. The box may be empty. The view is valid until the next call.
  virtual ConstImageView read(const IntBox& box) = 0;
};

// A reader for rows of raw pixels in this layout. It returns views into the row, without a copy.
std::unique_ptr<ImageReader> make_image_reader(const ImageLayout& layout);

// Error(Reason::value) unless images of this layout have this many bytes.
void check_row_bytes(const ImageLayout& layout, int64_t bytes);

}  // namespace lds
