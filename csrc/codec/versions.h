// Which libraries decode.
#pragma once

#include <map>
#include <string>

namespace lds {

// "libjpeg-turbo", "libpng", "libwebp" -> version; libjpeg-turbo's is that of the headers, as it tells no other.
std::map<std::string, std::string> codec_versions();

}  // namespace lds
