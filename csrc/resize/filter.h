// The resampling filters, by Pillow's names.
#pragma once

#include <cstdint>
#include <string>

namespace lds {

enum class Filter : uint8_t { nearest, box, bilinear, bicubic, lanczos };

// "nearest", "box", "bilinear", "bicubic", "lanczos"; Error(Reason::value) for another name.
Filter filter_named(const std::string& name);

}  // namespace lds
