// Writes the coefficients of a JPEG file as a baseline file: the same pixels, in a form that decodes fast.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace lds {

// Not thread-safe: use one per thread.
class JpegTranscoder {
 public:
  JpegTranscoder();
  ~JpegTranscoder();

  // The same image in one sequential scan, with optimised Huffman tables, a restart marker each row of MCUs, and no
  // metadata but JFIF or Adobe header, and `orientation` (EXIF's number) where it is not 1. The file is valid until the
  // next call.
  // Error: the file is damaged, is too large, or has no such copy, as one of four components, or a progressive one that
  // lacks coefficients, which libjpeg smooths when it decodes. bad_alloc.
  std::string_view transcode(const uint8_t* data, size_t size, int orientation, uint64_t max_pixels);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
