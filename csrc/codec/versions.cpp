#include "codec/versions.h"

#include <png.h>
#include <webp/decode.h>

#include "codec/libjpeg.h"

#define LDS_STRING_OF(x) #x
#define LDS_STRING(x) LDS_STRING_OF(x)

namespace lds {

std::map<std::string, std::string> codec_versions() {
  const int webp = WebPGetDecoderVersion();
  return {{"libjpeg-turbo", LDS_STRING(LIBJPEG_TURBO_VERSION)},
          {"libpng", png_get_libpng_ver(nullptr)},
          {"libwebp",
           std::to_string(webp >> 16) + "." + std::to_string(webp >> 8 & 255) + "." + std::to_string(webp & 255)}};
}

}  // namespace lds
