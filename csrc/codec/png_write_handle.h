// Wraps libpng's writer in functions that neither throw nor longjmp: each returns false if libpng reported an error.
// See Note [setjmp] in jpeg_handle.h.
#pragma once

#include <png.h>

#include <csetjmp>
#include <cstddef>
#include <cstdint>

namespace lds {

struct PngWriteHandle {
  png_structp png = nullptr;
  png_infop info = nullptr;
  // The file that is written: allocated by malloc, as libpng calls back from where nothing may be thrown.
  uint8_t* bytes = nullptr;
  size_t capacity = 0;
  size_t size = 0;
  bool out_of_memory = false;
  char message[256]{};

  PngWriteHandle() = default;
  ~PngWriteHandle();
  PngWriteHandle(const PngWriteHandle&) = delete;
  PngWriteHandle& operator=(const PngWriteHandle&) = delete;

  // Starts a file of grey values of 8 or 16 bits. Rows of 16 bits have the low byte first.
  bool start(int width, int height, int bits);
  bool write_row(const uint8_t* row);
  bool finish();
  void close() noexcept;
};

}  // namespace lds
