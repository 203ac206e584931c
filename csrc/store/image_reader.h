// Reads the pixels of a box from a row of the store.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "convert/image_layout.h"
#include "resize/resize.h"
#include "store/row_source.h"

namespace lds {

// How the rows of a store hold images.
enum class Codec : uint8_t {
  raw,   // pixels
  jpeg,  // a JPEG file
  png,   // of a mask, a PNG file
};

struct ReadSpec {
  Codec codec = Codec::raw;
  ImageLayout images;           // raw: of every image; else the channels and type to decode, and the smallest size
  bool scaled = false;          // jpeg: decode at a smaller DCT scale where the image is resized to at most half
  uint64_t max_pixels = 0;      // jpeg, png: of the largest image
  std::vector<ReadSpec> parts;  // of ConcatRows: one for each source; `images` has the size of the smallest image
};

// A box of an image, and the size to which it is resized.
struct BoxRequest {
  IntBox box;
  ImageSize size;
};

// Not thread-safe: use one per thread.
class ImageReader {
 public:
  ImageReader() = default;
  virtual ~ImageReader() = default;
  ImageReader(const ImageReader&) = delete;
  ImageReader& operator=(const ImageReader&) = delete;

  // Opens the image in a row and returns its size. The row must stay valid until the next open(). An Error says what is
  // wrong with the row.
  virtual ImageSize open(const Extent& row) = 0;

  // Reads once what all of these boxes need, so that read() and resize() may then be called for each of them. Without
  // hold(), call one of the two once for each open().
  virtual void hold(const std::vector<BoxRequest>& requests) = 0;

  // The pixels of a box inside the opened image. The box may be empty. The view is valid until the next call.
  virtual ConstImageView read(const IntBox& box) = 0;

  // Resizes a box inside the opened image: `spec` and `out` are those of StreamingResizer for the box alone.
  virtual void resize(const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer, const ImageView& out) = 0;
};

// Raw rows are read without a copy. Of a JPEG row, only what the box needs is decoded. Error(Reason::value) for a spec
// that is not possible.
std::unique_ptr<ImageReader> make_image_reader(const ReadSpec& spec);

// Error(Reason::value) unless images of this layout have this many bytes.
void check_row_bytes(const ImageLayout& layout, int64_t bytes);

}  // namespace lds
