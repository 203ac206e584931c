#include "convert/pixel_type.h"

namespace lds {

int64_t pixel_bytes(PixelType type) noexcept {
  switch (type) {
    case PixelType::uint8: return 1;
    case PixelType::float16:
    case PixelType::bfloat16:
    case PixelType::uint16:
    case PixelType::int16: return 2;
    case PixelType::float32:
    case PixelType::int32: return 4;
    case PixelType::int64: break;
  }
  return 8;
}

const char* pixel_type_name(PixelType type) noexcept {
  switch (type) {
    case PixelType::uint8: return "uint8";
    case PixelType::float32: return "float32";
    case PixelType::float16: return "float16";
    case PixelType::bfloat16: return "bfloat16";
    case PixelType::uint16: return "uint16";
    case PixelType::int16: return "int16";
    case PixelType::int32: return "int32";
    case PixelType::int64: break;
  }
  return "int64";
}

}  // namespace lds
