#include "transform/crop.h"

#include <algorithm>
#include <cmath>

namespace lds {
namespace {

// Python's round(): half to even, in the default rounding mode.
int round_half_even(double x) { return static_cast<int>(std::nearbyint(x)); }

Crop center(const SampleSpec& spec) {
  return {round_half_even((spec.width - spec.out_width) / 2.0), round_half_even((spec.height - spec.out_height) / 2.0),
          spec.out_width, spec.out_height};
}

Crop anywhere(const SampleSpec& spec, SampleRandom& random) {
  const int y = static_cast<int>(random.below(spec.height + 2 * spec.padding - spec.out_height + 1));
  const int x = static_cast<int>(random.below(spec.width + 2 * spec.padding - spec.out_width + 1));
  return {x - spec.padding, y - spec.padding, spec.out_width, spec.out_height};
}

// torchvision.transforms.RandomResizedCrop.get_params
Crop resized(const SampleSpec& spec, SampleRandom& random) {
  const double area = double{1} * spec.height * spec.width;
  const double log_low = std::log(spec.ratio[0]);
  const double log_high = std::log(spec.ratio[1]);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * (spec.scale[0] + (spec.scale[1] - spec.scale[0]) * random.uniform());
    const double aspect = std::exp(log_low + (log_high - log_low) * random.uniform());
    const int width = round_half_even(std::sqrt(target * aspect));
    const int height = round_half_even(std::sqrt(target / aspect));
    if (width < 1 || width > spec.width || height < 1 || height > spec.height) continue;
    const int y = static_cast<int>(random.below(spec.height - height + 1));
    const int x = static_cast<int>(random.below(spec.width - width + 1));
    return {x, y, width, height};
  }
  const double aspect = double{1} * spec.width / spec.height;
  int width = spec.width;
  int height = spec.height;
  if (aspect < spec.ratio[0]) {
    height = std::clamp(round_half_even(width / spec.ratio[0]), 1, spec.height);
  } else if (aspect > spec.ratio[1]) {
    width = std::clamp(round_half_even(height * spec.ratio[1]), 1, spec.width);
  }
  return {(spec.width - width) / 2, (spec.height - height) / 2, width, height};
}

}  // namespace

Crop choose_crop(const SampleSpec& spec, SampleRandom& random) noexcept {
  switch (spec.crop) {
    case CropMode::center: return center(spec);
    case CropMode::random: return anywhere(spec, random);
    case CropMode::random_resized: return resized(spec, random);
    case CropMode::none: break;
  }
  return {0, 0, spec.width, spec.height};
}

}  // namespace lds
