// Preloaded, it makes the process's libjpeg one of ABI 99, which refuses programs that were built for another.
// clang-format off: jpeglib.h needs what <stdio.h> declares
#include <stdio.h>
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

void jpeg_CreateDecompress(j_decompress_ptr info, int version, size_t size) {
  (void)size;
  info->mem = NULL;
  ERREXIT2(info, JERR_BAD_LIB_VERSION, 99, version);
}
