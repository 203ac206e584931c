// Checks the libjpeg that is loaded at run time, which may differ from the one whose headers the core was built with.
#pragma once

#include <string>

namespace lds {

struct JpegLibraryCheck {
  std::string error;    // why nothing can be decoded, and what to install; empty if all is well
  std::string warning;  // why decoding is slower than it could be; empty if it is not
};
JpegLibraryCheck check_jpeg_library();

// Whether HuffmanScan (huffman_scan.h) gives the same pixels as libjpeg's own Huffman decoder. The first call decodes
// two small files both ways. If the pixels differ, libjpeg's decoder is used, so pixels are correct with any libjpeg.
bool huffman_reader_agrees();

// Like huffman_reader_agrees(), but runs the check each time. Throws std::bad_alloc if memory is too short for it.
bool compare_huffman_readers();

}  // namespace lds
