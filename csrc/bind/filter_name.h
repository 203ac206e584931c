#pragma once

#include <string>

#include "resize/resize.h"

namespace lds {

// "nearest", "box", "bilinear", "bicubic", "lanczos"; Error(Reason::value) for another word.
Filter filter_of(const std::string& name);

}  // namespace lds
