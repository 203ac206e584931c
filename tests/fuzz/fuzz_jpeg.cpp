#include <cstdio>
#include <string_view>

#include "codec/jpeg.h"
#include "fuzz_common.h"

// Our reader of Huffman codes and libjpeg's must agree, on broken files too; but for two things. libjpeg-turbo's fast
// loop takes bits that are no code for a zero, where ours fails; and where it meets fill bytes within the data it
// begins an MCU again without clearing it. fuzz_jpeg_structure.cpp keeps libjpeg out of that loop, and leaves nothing
// out.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::Outcome ours = fuzz::decode<lds::JpegDecoder>(data, size, true);
  const bool fill_bytes =
      std::string_view(reinterpret_cast<const char*>(data), size).find("\xFF\xFF") != std::string_view::npos;
  if (fill_bytes || ours.error.find("bad Huffman code") != std::string::npos) return 0;
  const fuzz::Outcome plain = fuzz::decode<lds::JpegDecoder>(
      data, size, true, [](lds::DecodeOptions& options) { options.huffman_reader = lds::HuffmanReader::libjpeg; });
  if (ours != plain) {
    std::fprintf(stderr, "ours: '%s' %016llx\nlibjpeg's: '%s' %016llx\n", ours.error.c_str(),
                 static_cast<unsigned long long>(ours.pixels), plain.error.c_str(),
                 static_cast<unsigned long long>(plain.pixels));
    std::abort();
  }
  return 0;
}
