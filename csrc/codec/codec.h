// Types that all codecs share: image formats, decode options, and the interface that receives decoded rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/image_view.h"

namespace lds {

enum class Format : uint8_t { unknown, jpeg, png, webp };
Format sniff_format(const uint8_t* data, size_t size) noexcept;
const char* format_name(Format format) noexcept;

// Which code decodes the Huffman data of a JPEG file.
enum class HuffmanReader : uint8_t {
  checked,  // HuffmanScan if it agrees with the loaded libjpeg (see jpeg_library.h), else libjpeg
  ours,     // always HuffmanScan; used for the check itself
  libjpeg,  // always libjpeg; used for comparison
};

struct DecodeOptions {
  int channels = 3;                 // 3: Pillow's convert("RGB"); 1: Pillow's convert("L")
  bool exif_orientation = true;     // rotate and flip the image as its EXIF orientation says
  bool keep_truncated = false;      // decode a truncated JPEG as far as it goes, and a PNG without its end
  uint64_t max_pixels = 178956970;  // Pillow's limit; checked before anything is allocated
  HuffmanReader huffman_reader = HuffmanReader::checked;
  // Pass the parts of a JPEG that a box does not need by restart markers, where HuffmanScan can: damage there is not
  // found then.
  bool jump_restarts = false;
  // The image is a mask: one number a pixel, an index of the palette or a value of grey, as a little-endian integer of
  // `channels` bytes, which are 1, 2 or 4.
  bool mask = false;
};

// Error(Reason::value) unless images can have these channels.
void check_channels(const DecodeOptions& options);

// Receives rows of interleaved pixels, top to bottom.
class RowSink {
 public:
  virtual ~RowSink() = default;
  virtual void push(const uint8_t* row) = 0;
};

}  // namespace lds
