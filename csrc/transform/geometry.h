// Decides which part of an image a sample shows, and at what size. It is drawn once per sample and does not
// depend on how images are stored.
#pragma once

#include <cstdint>

#include "common/image_view.h"
#include "common/random.h"

namespace lds {

enum class CropMode : uint8_t {
  none,            // the whole image
  center,          // torchvision's center_crop
  random,          // a uniform position, after zero padding by `padding` pixels on each side
  random_resized,  // torchvision's RandomResizedCrop: up to ten draws of scale and ratio, then a center crop
};

// The distribution from which a sample's geometry is drawn.
struct AugmentSpec {
  CropMode crop = CropMode::none;
  ImageSize size;                                                    // of the sample; ignored for CropMode::none
  int padding = 0;                                                   // CropMode::random
  double scale[2] = {0.08, 1.0}, ratio[2] = {3.0 / 4.0, 4.0 / 3.0};  // CropMode::random_resized
  double flip = 0.0;                                                 // probability of a horizontal flip
};

// Error(Reason::value) unless images of this size can be augmented like this.
void check(const AugmentSpec& spec, ImageSize image);

// The size of the samples that are made from images of this size.
ImageSize sample_size(const AugmentSpec& spec, ImageSize image) noexcept;

struct Geometry {
  IntBox box;      // the part of the image; pixels outside of the image (padding) are 0
  ImageSize size;  // the size of the sample; a box of another size is resized
  bool flip = false;

  bool resizes() const noexcept { return box.size() != size; }
  IntBox inside(ImageSize image) const noexcept;  // the part of the box that lies inside the image; may be empty
};

// Draws first the crop, then the flip.
Geometry draw_geometry(const AugmentSpec& spec, ImageSize image, SampleRandom& random) noexcept;

}  // namespace lds
