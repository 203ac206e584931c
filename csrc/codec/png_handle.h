// Wraps libpng in functions that neither throw nor longjmp: each returns false if libpng reported an error.
#pragma once

#include <png.h>

#include <csetjmp>
#include <cstddef>
#include <cstdint>

namespace lds {

// A compressed text can inflate to a thousand times its size.
constexpr size_t kMaxTextBytes = size_t{4} << 20;

// See Note [setjmp] in jpeg_handle.h.
struct PngHandle {
  png_structp png = nullptr;
  png_infop info = nullptr;
  const uint8_t* next = nullptr;
  size_t left = 0;
  bool ended = false;          // libpng asked for more bytes than the file has
  bool out_of_memory = false;  // an allocation of libpng failed
  char message[256]{};

  PngHandle() = default;
  ~PngHandle() { close(); }
  PngHandle(const PngHandle&) = delete;
  PngHandle& operator=(const PngHandle&) = delete;

  // Reads everything before the pixels. Chunks that don't affect the pixels are skipped unread; with Texts::keep, text
  // chunks of up to kMaxTextBytes are kept.
  enum class Texts : uint8_t { skip, keep };
  bool read_header(const uint8_t* data, size_t size, Texts texts = Texts::skip);
  // What rows are: numbers are palette indices or values of gray as the file has them, in a byte or, if the file has 16
  // bits, in two, the low byte first; with the others, a palette gives 8-bit indices too.
  enum class Output : uint8_t { gray_or_rgb, rgb, numbers };
  bool start(Output output, int* passes);
  bool read_row(uint8_t* row);
  void close() noexcept;
};

}  // namespace lds
