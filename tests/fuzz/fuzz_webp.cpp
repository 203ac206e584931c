// Fuzzes the WebP codec.
#include "codec/webp.h"
#include "fuzz_common.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::decode<lds::WebpDecoder>(data, size);
  return 0;
}
