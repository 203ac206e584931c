// Fuzzes the JPEG codec, and compares HuffmanScan with libjpeg.
#include <cstdio>
#include <string_view>

#include "codec/jpeg.h"
#include "fuzz_common.h"

// HuffmanScan and libjpeg must agree, also on damaged files, with two exceptions. libjpeg-turbo's fast loop decodes an
// invalid code as a zero, where HuffmanScan fails. And after fill bytes within the data, libjpeg-turbo restarts an MCU
// without clearing it. fuzz_jpeg_structure.cpp keeps libjpeg out of that loop, and has no
// exceptions.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::Outcome ours = fuzz::decode<lds::JpegDecoder>(data, size, true);
  const bool fill_bytes =
      std::string_view(reinterpret_cast<const char*>(data), size).find("\xFF\xFF") != std::string_view::npos;
  if (fill_bytes || ours.error.find("bad Huffman code") != std::string::npos) return 0;
  const fuzz::Outcome libjpeg = fuzz::decode<lds::JpegDecoder>(
      data, size, true, [](lds::DecodeOptions& options) { options.huffman_reader = lds::HuffmanReader::libjpeg; });
  if (ours != libjpeg) {
    std::fprintf(stderr, "HuffmanScan: '%s' %016llx\nlibjpeg: '%s' %016llx\n", ours.error.c_str(),
                 static_cast<unsigned long long>(ours.pixels), libjpeg.error.c_str(),
                 static_cast<unsigned long long>(libjpeg.pixels));
    std::abort();
  }
  return 0;
}
