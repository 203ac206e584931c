// Fuzzes everything from a file to a row: the magic bytes, the codecs, orientation, resize and crop.
#include <vector>

#include "fuzz_common.h"
#include "packing/image_to_row.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices choices{data, size};
  lds::RowSpec spec;
  spec.decode = fuzz::options(choices);
  const int flags = choices.next();
  spec.planar = flags & 1;
  spec.scaled = flags & 2;
  spec.antialias = flags & 4;
  spec.filter = static_cast<lds::Filter>(flags / 8 % 5);
  spec.resize_h = choices.next() % 64;
  spec.resize_w = spec.resize_h > 0 ? choices.next() % 64 : 0;
  spec.crop_h = spec.out_h = 1 + choices.next() % 64;
  spec.crop_w = spec.out_w = 1 + choices.next() % 64;
  std::vector<uint8_t> row(size_t(spec.out_h) * size_t(spec.out_w) * size_t(spec.decode.channels));
  try {
    lds::ImageToRow(spec).convert(data, choices.size, row.data());
  } catch (const lds::Error& error) {
    if (error.reason() == lds::Reason::internal || error.reason() == lds::Reason::value) std::abort();
  }
  return 0;
}
