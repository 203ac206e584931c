// What the codecs share: formats, the options of decoding, and where rows go.
#pragma once

#include <cstddef>
#include <cstdint>

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

// Receives rows of interleaved pixels, top to bottom.
class RowSink {
 public:
  virtual ~RowSink() = default;
  virtual void push(const uint8_t* row) = 0;
};

}  // namespace lds
