#include "codec/png_encode.h"

#include <new>
#include <string>

#include "codec/png_write_handle.h"
#include "common/error.h"

namespace lds {

struct PngEncoder::State {
  PngWriteHandle png;

  void check(bool ok) {
    if (ok) return;
    const bool out_of_memory = png.out_of_memory;
    png.close();
    if (out_of_memory) throw std::bad_alloc();
    throw Error(Reason::internal, std::string("PNG: ") + png.message);
  }
};

PngEncoder::PngEncoder() : state_(std::make_unique<State>()) {}
PngEncoder::~PngEncoder() = default;

std::string_view PngEncoder::encode(const ConstImageView& numbers) {
  if (numbers.channels != 1 && numbers.channels != 2) {
    throw Error(Reason::value, "a PNG file has numbers of 8 or 16 bits, found " + std::to_string(8 * numbers.channels));
  }
  State& s = *state_;
  s.check(s.png.start(numbers.width, numbers.height, 8 * numbers.channels));
  for (int y = 0; y < numbers.height; ++y) s.check(s.png.write_row(numbers.row(y)));
  s.check(s.png.finish());
  s.png.close();
  return {reinterpret_cast<const char*>(s.png.bytes), s.png.size};
}

}  // namespace lds
