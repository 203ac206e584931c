// Preloaded, it makes the process's libjpeg one whose pixels are wrong when somebody else reads its Huffman codes.
#define _GNU_SOURCE
// clang-format off: jpeglib.h needs what <stdio.h> declares
#include <stdio.h>
#include <jpeglib.h>
// clang-format on
#include <dlfcn.h>

// The beginning of libjpeg's internal jpeg_entropy_decoder.
struct words {
  void (*start_pass)(j_decompress_ptr);
  boolean (*decode_mcu)(j_decompress_ptr, JBLOCKROW*);
};

static __thread boolean (*own_decode_mcu)(j_decompress_ptr, JBLOCKROW*);

boolean jpeg_start_decompress(j_decompress_ptr info) {
  boolean (*real)(j_decompress_ptr) = dlsym(RTLD_NEXT, "jpeg_start_decompress");
  const boolean done = real(info);
  own_decode_mcu = ((struct words*)info->entropy)->decode_mcu;
  return done;
}

JDIMENSION jpeg_read_scanlines(j_decompress_ptr info, JSAMPARRAY rows, JDIMENSION count) {
  JDIMENSION (*real)(j_decompress_ptr, JSAMPARRAY, JDIMENSION) = dlsym(RTLD_NEXT, "jpeg_read_scanlines");
  const JDIMENSION done = real(info, rows, count);
  if (((struct words*)info->entropy)->decode_mcu == own_decode_mcu) return done;
  for (JDIMENSION y = 0; y < done; ++y) rows[y][0] ^= 0xFF;  // where libjpeg skips rows, they have one byte
  return done;
}
