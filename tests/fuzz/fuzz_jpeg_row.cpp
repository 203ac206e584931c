// Fuzzes how an image file becomes a JPEG row: what is made of it decodes, and a copy without loss to the file's
// pixels.
#include <cstdio>
#include <vector>

#include "fuzz_common.h"
#include "packing/image_to_jpeg.h"

namespace {

// The hash of the pixels as stored.
fuzz::Outcome stored_pixels(const uint8_t* data, size_t size, lds::DecodeOptions options) {
  static lds::Decoder decoder;
  options.exif_orientation = false;
  options.keep_truncated = false;
  try {
    const lds::ImageInfo info = decoder.open(data, size, options);
    const lds::IntBox whole{0, 0, info.width, info.height};
    fuzz::HashSink sink(whole, options.channels);
    decoder.read(whole, sink);
    return {sink.finish(), ""};
  } catch (const lds::Error& error) {
    return {0, error.what()};
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices choices{data, size};
  lds::RowSpec row;
  row.decode = fuzz::options(choices);
  row.resize_h = choices.next() % 64;
  row.crop_h = row.crop_w = 0;
  const bool restarts = choices.next() & 1;
  lds::ImageToJpeg images(row, {1 + choices.next() % 100, restarts});
  std::vector<uint8_t> out;
  lds::JpegRow made;
  try {
    made = images.convert(data, choices.size, true, out);
  } catch (const lds::Error& error) {
    if (error.reason() == lds::Reason::internal || error.reason() == lds::Reason::value) std::abort();
    return 0;
  }
  if (made.kept == lds::Kept::verbatim) return 0;  // its Huffman data were not decoded
  const fuzz::Outcome found = stored_pixels(out.data(), out.size(), row.decode);
  const fuzz::Outcome expected =
      made.kept == lds::Kept::transcoded ? stored_pixels(data, choices.size, row.decode) : found;
  if (!found.error.empty() || found != expected) {
    std::fprintf(stderr, "row: '%s' file: '%s'\n", found.error.c_str(), expected.error.c_str());
    std::abort();
  }
  return 0;
}
