// Preloaded, it makes the process's libjpeg one whose jpeg_entropy_decoder begins with numbers: who takes these for
// functions and puts one of its own there ends the process.
#define _GNU_SOURCE
// clang-format off: jpeglib.h needs what <stdio.h> declares
#include <stdio.h>
#include <jpeglib.h>
// clang-format on
#include <dlfcn.h>
#include <stdlib.h>

static __thread struct jpeg_entropy_decoder* decoder;
static __thread size_t numbers[2];

static void hide_decoder(j_decompress_ptr info) {
  decoder = info->entropy;
  numbers[0] = 62;
  numbers[1] = 80;
  info->entropy = (struct jpeg_entropy_decoder*)numbers;
}

// Gives libjpeg its decoder back. False where it is there: libjpeg's functions call each other.
static int show_decoder(j_decompress_ptr info) {
  if (info->entropy != (struct jpeg_entropy_decoder*)numbers) return 0;
  if (numbers[0] != 62 || numbers[1] != 80) abort();
  info->entropy = decoder;
  return 1;
}

boolean jpeg_start_decompress(j_decompress_ptr info) {
  boolean (*real)(j_decompress_ptr) = dlsym(RTLD_NEXT, "jpeg_start_decompress");
  const boolean done = real(info);
  hide_decoder(info);
  return done;
}

void jpeg_crop_scanline(j_decompress_ptr info, JDIMENSION* x, JDIMENSION* width) {
  void (*real)(j_decompress_ptr, JDIMENSION*, JDIMENSION*) = dlsym(RTLD_NEXT, "jpeg_crop_scanline");
  const int hide = show_decoder(info);
  real(info, x, width);
  if (hide) hide_decoder(info);
}

JDIMENSION jpeg_skip_scanlines(j_decompress_ptr info, JDIMENSION count) {
  JDIMENSION (*real)(j_decompress_ptr, JDIMENSION) = dlsym(RTLD_NEXT, "jpeg_skip_scanlines");
  const int hide = show_decoder(info);
  const JDIMENSION done = real(info, count);
  if (hide) hide_decoder(info);
  return done;
}

JDIMENSION jpeg_read_scanlines(j_decompress_ptr info, JSAMPARRAY rows, JDIMENSION count) {
  JDIMENSION (*real)(j_decompress_ptr, JSAMPARRAY, JDIMENSION) = dlsym(RTLD_NEXT, "jpeg_read_scanlines");
  const int hide = show_decoder(info);
  const JDIMENSION done = real(info, rows, count);
  if (hide) hide_decoder(info);
  return done;
}
