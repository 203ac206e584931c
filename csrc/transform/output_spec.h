// The type, layout and scale of samples.
#pragma once

#include <optional>
#include <vector>

#include "convert/pixel_type.h"
#include "resize/filter.h"

namespace lds {

struct OutputSpec {
  bool planar = true;                   // CHW, else HWC (channels_last)
  PixelType type = PixelType::float32;  // that of the images, or a float
  // Float output is value * multiply[c] + add[c], which includes mean and std. Empty: 0, and a factor that maps the
  // range of an integer type to 1: 1/255, 1/65535 for uint16, 1/32768 for int16. Floats are then unchanged.
  std::vector<float> multiply = {}, add = {};
  double padding = 0;                           // the value of pixels outside of the image, before multiply and add
  std::optional<Filter> filter = std::nullopt;  // instead of that of AugmentSpec
};

}  // namespace lds
