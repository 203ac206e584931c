// Fuzzes the parsers of EXIF blocks, XMP packets and JPEG segments.
#include <string_view>

#include "codec/exif.h"
#include "fuzz_common.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const int orientation = lds::merge_orientation(lds::exif_orientation(bytes), lds::xmp_orientation(bytes));
  const int of_jpeg = lds::jpeg_orientation(data, size);
  if (orientation < 1 || orientation > 8 || of_jpeg < 1 || of_jpeg > 8) std::abort();
  return 0;
}
