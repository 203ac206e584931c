// Looks at the markers of a JPEG file, without decoding it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lds {

struct JpegStructure {
  int width = 0, height = 0, components = 0;  // of the frame; 0 where the file has none before its first scan
  bool progressive = false;                   // Huffman or arithmetic

  // The file can be kept as it is: one scan of baseline or extended Huffman data with all of 1 or 3 components of 8
  // bits, complete tables, restart markers in order, no other marker in its data, and an end.
  bool plain = false;
  size_t end = 0;             // of a plain file: the byte after its EOI marker; what follows is no part of the image
  size_t metadata = 0;        // bytes of comments and of APPn segments other than the JFIF and Adobe headers
  bool row_restarts = false;  // each row of MCUs begins after a restart marker, or there is only one
};

// Never reads outside of the file. What is not seen: damage inside of the Huffman data, which only decoding finds.
JpegStructure inspect_jpeg(const uint8_t* data, size_t size) noexcept;

}  // namespace lds
