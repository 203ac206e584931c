// The resampling filters of Pillow, with their names.
#pragma once

#include <cstdint>
#include <string>

namespace lds {

enum class Filter : uint8_t { nearest, box, bilinear, bicubic, lanczos };

// `name` is "nearest", "box", "bilinear", "bicubic" or "lanczos"; else Error(Reason::value).
Filter filter_named(const std::string& name);

}  // namespace lds
