// libpng behind functions that never throw and never longjmp out: each gives false when libpng reported an error.
#pragma once

#include <png.h>

#include <csetjmp>
#include <cstddef>
#include <cstdint>

namespace lds {

// A text of a few bytes may inflate to a thousand times as many.
constexpr size_t kMaxTextBytes = size_t{4} << 20;

// See Note [setjmp] in jpeg_handle.h. One handle is one image.
struct PngHandle {
  png_structp png = nullptr;
  png_infop info = nullptr;
  const uint8_t* next = nullptr;
  size_t left = 0;
  bool ended = false;          // libpng asked for bytes after the last one
  bool out_of_memory = false;  // libpng asked for memory that the system did not have
  char message[256]{};

  PngHandle() = default;
  ~PngHandle() { close(); }
  PngHandle(const PngHandle&) = delete;
  PngHandle& operator=(const PngHandle&) = delete;

  // All up to the pixels. Chunks that do not change them are skipped unread; texts are kept when asked for, up to
  // kMaxTextBytes.
  enum class Texts : uint8_t { skip, keep };
  bool read_header(const uint8_t* data, size_t size, Texts texts = Texts::skip);
  // Rows become 8-bit gray or RGB (to_rgb: gray becomes RGB), 8-bit palette indices, or 16-bit gray.
  bool start(bool to_rgb, int* passes);
  bool read_row(uint8_t* row);
  void close() noexcept;
};

}  // namespace lds
