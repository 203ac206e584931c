// Which part of an image a sample takes, drawn as torchvision draws it.
#pragma once

#include "common/random.h"
#include "transform/sample_spec.h"

namespace lds {

struct Crop {
  int x = 0, y = 0, width = 0, height = 0;  // x and y are negative inside the padding
};

// Consumes the sample's draws for its crop.
Crop choose_crop(const SampleSpec& spec, SampleRandom& random) noexcept;

}  // namespace lds
