// A row and a box -> pixels.
#pragma once

#include <memory>

#include "convert/image_layout.h"
#include "store/row_source.h"

namespace lds {

// One per thread.
class ImageReader {
 public:
  ImageReader() = default;
  virtual ~ImageReader() = default;
  ImageReader(const ImageReader&) = delete;
  ImageReader& operator=(const ImageReader&) = delete;

  // Begins to read the image of a row, which must stay meanwhile. Returns its size.
  virtual ImageSize open(const Extent& row) = 0;

  // The pixels of a box inside the opened image, which may be empty. They stay until the next call.
  virtual ConstImageView read(const IntBox& box) = 0;
};

// For rows that are the pixels themselves, in this layout: nothing is copied.
std::unique_ptr<ImageReader> make_image_reader(const ImageLayout& layout);

// Error(Reason::value) unless rows of so many bytes can hold such images.
void check_row_bytes(const ImageLayout& layout, int64_t bytes);

}  // namespace lds
