// Sizes in messages.
#pragma once

#include <string>

#include "common/image_view.h"

namespace lds {

inline std::string size_text(ImageSize size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

}  // namespace lds
