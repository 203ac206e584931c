// Bytes of an image file -> rows of pixels. The format is told by its magic bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "common/image_view.h"

namespace lds {

enum class Format : uint8_t { unknown, jpeg, png, webp };
Format sniff_format(const uint8_t* data, size_t size) noexcept;
const char* format_name(Format format) noexcept;

// Who reads the Huffman codes of a JPEG.
enum class HuffmanReader : uint8_t {
  checked,  // HuffmanScan, if it agrees with the libjpeg that was loaded (jpeg_library.h)
  ours,     // HuffmanScan, to find out whether it does
  libjpeg,  // to compare with
};

struct DecodeOptions {
  int channels = 3;                 // 3: as Pillow's convert("RGB"); 1: as convert("L")
  bool exif_orientation = true;     // turn the image as its EXIF block says
  bool keep_truncated = false;      // a JPEG that ends early keeps what it has
  uint64_t max_pixels = 178956970;  // as Pillow; checked before anything is allocated
  HuffmanReader huffman_reader = HuffmanReader::checked;
};

struct ImageInfo {
  Format format = Format::unknown;
  int width = 0, height = 0;  // after orientation, and after set_draft
  int orientation = 1;        // EXIF, 1-8; 1 when it is ignored
};

// Receives rows of interleaved pixels, top to bottom.
class RowSink {
 public:
  virtual ~RowSink() = default;
  virtual void push(const uint8_t* row) = 0;
};

// One per thread; decompressors and buffers are kept between images.
class Decoder {
 public:
  Decoder();
  ~Decoder();

  // Reads the header. `data` must stay until read() returns. Throws Error with reason corrupt,
  // truncated, too_large or unsupported.
  ImageInfo open(const uint8_t* data, size_t size, const DecodeOptions& options);

  // JPEG only (others: no effect): decode at the smallest DCT scale that leaves at least
  // min_width x min_height, as Pillow's Image.draft. Returns the new size.
  ImageInfo set_draft(int min_width, int min_height);

  // Throws Error(Reason::value) when the box isn't inside the opened image, or is empty.
  void check_box(const IntBox& box) const;

  // Decodes once the box (in oriented pixels) of the opened image.
  void read(const IntBox& box, RowSink& sink);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
