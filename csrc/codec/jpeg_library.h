// What we lean on in the libjpeg that was loaded. It need not be the one whose headers we were built with.
#pragma once

#include <string>

namespace lds {

struct JpegLibraryCheck {
  std::string error;    // why nothing can be decoded, and what to install; empty: it can
  std::string warning;  // why decoding is slower than it could be; empty: it is not
};
JpegLibraryCheck check_jpeg_library();

// Whether our reader of Huffman codes (huffman_scan.h) gives the pixels that libjpeg's own gives. The first call finds
// out: it decodes two small files both ways. Whatever libjpeg comes, its pixels are right, if need be without us.
bool huffman_reader_agrees();

// The same, found out each time. Throws std::bad_alloc where memory is too short to tell.
bool compare_huffman_readers();

}  // namespace lds
