// Wraps libpng in functions that neither throw nor longjmp: each returns false if libpng reported an error.
#pragma once

#include <png.h>

#include <csetjmp>
#include <cstddef>
#include <cstdint>

namespace lds {

// See Note [setjmp] in jpeg_handle.h.
struct PngHandle {
  png_structp png = nullptr;
  png_infop info = nullptr;
  const uint8_t* next = nullptr;
  size_t left = 0;
  bool ended = false;  // libpng asked for more bytes than the file has
  char message[256]{};

  PngHandle() = default;
  ~PngHandle() { close(); }
  PngHandle(const PngHandle&) = delete;
  PngHandle& operator=(const PngHandle&) = delete;

  bool read_header(const uint8_t* data, size_t size);
  // Rows are then 8-bit gray or RGB (always RGB with to_rgb), 8-bit palette indices, or 16-bit gray.
  bool start(bool to_rgb, int* passes);
  bool read_row(uint8_t* row);
  void close() noexcept;
};

}  // namespace lds
