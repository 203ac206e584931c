// Versions of the libraries that decode images.
#pragma once

#include <map>
#include <string>

namespace lds {

// Versions by "libjpeg-turbo", "libpng" and "libwebp". libjpeg-turbo has no function that returns its version, so its
// entry is the version of the headers.
std::map<std::string, std::string> codec_versions();

}  // namespace lds
