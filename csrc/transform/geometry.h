// Which part of an image a sample shows, and how large: drawn once a sample, however its images are stored.
#pragma once

#include <cstdint>

#include "common/image_view.h"
#include "common/random.h"

namespace lds {

enum class CropMode : uint8_t {
  none,            // the whole image
  center,          // torchvision's center_crop
  random,          // at a uniform position, after zero padding by `padding` on each side
  random_resized,  // torchvision's RandomResizedCrop: scale, ratio, ten tries, then a centre crop
};

// What is drawn for each sample.
struct AugmentSpec {
  CropMode crop = CropMode::none;
  ImageSize size;   // of a sample; without a crop it is the image's own
  int padding = 0;  // random
  double scale[2] = {0.08, 1.0}, ratio[2] = {3.0 / 4.0, 4.0 / 3.0};  // random_resized
  double flip = 0.0;                                                 // probability of a horizontal flip
};

// Error(Reason::value) naming expected and found unless images of this size can be augmented so.
void check(const AugmentSpec& spec, ImageSize image);

// Of the samples that are made of images of this size.
ImageSize sample_size(const AugmentSpec& spec, ImageSize image) noexcept;

struct Geometry {
  IntBox box;      // of the image; where it reaches outside, into the padding, pixels are 0
  ImageSize size;  // of the sample: a box of another size is resized to it
  bool flip = false;

  bool resizes() const noexcept { return box.size() != size; }
  IntBox inside(ImageSize image) const noexcept;  // the part of the box that lies inside the image; may be empty
};

// Consumes the sample's draws: of the crop, then of the flip.
Geometry draw_geometry(const AugmentSpec& spec, ImageSize image, SampleRandom& random) noexcept;

}  // namespace lds
