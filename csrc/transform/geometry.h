// Decides which part of an image a sample shows, and at what size. It is drawn once per sample and does not
// depend on how images are stored.
#pragma once

#include <cstdint>

#include "common/image_view.h"
#include "common/random.h"
#include "resize/filter.h"

namespace lds {

enum class CropMode : uint8_t {
  none,            // the whole image
  center,          // torchvision's CenterCrop, after Resize if `resize` is set
  random,          // a uniform position, after zero padding by `padding` pixels on each side
  random_resized,  // torchvision's RandomResizedCrop: up to ten draws of scale and ratio, then a center crop
};

// The distribution from which a sample's geometry is drawn.
struct AugmentSpec {
  CropMode crop = CropMode::none;
  ImageSize size;                                                    // of the sample; ignored for CropMode::none
  ImageSize resize;                                                  // CropMode::center: see resized_size()
  int padding = 0;                                                   // CropMode::random
  double scale[2] = {0.08, 1.0}, ratio[2] = {3.0 / 4.0, 4.0 / 3.0};  // CropMode::random_resized
  double flip = 0.0;                                                 // probability of a horizontal flip
  double vertical_flip = 0.0;
  Filter filter = Filter::bilinear;  // for what is resized, with antialiasing
};

// torchvision's Resize: {s, 0} resizes the shorter side to s, {h, w} resizes to exactly that size, and {0, 0} keeps the
// size. Error(Reason::too_large) if the result would be.
ImageSize resized_size(ImageSize resize, ImageSize image);

// Error(Reason::value) unless images of at least this size can be augmented like this.
void check(const AugmentSpec& spec, ImageSize image);

// The size of the samples that are made from images of this size.
ImageSize sample_size(const AugmentSpec& spec, ImageSize image) noexcept;

struct Geometry {
  IntBox box;         // the part of the image; pixels outside of the image (padding) are 0
  ImageSize resized;  // the size to which the box is resized; a box that is resized lies inside the image
  IntBox part;        // what the sample shows of the resized box; all of it where the box is not resized
  bool flip = false;  // horizontally
  bool vertical_flip = false;

  bool resizes() const noexcept { return box.size() != resized; }
  IntBox inside(ImageSize image) const noexcept;  // the part of the box that lies inside the image; may be empty
};

// Draws first the crop, then the flip, then the vertical flip; a probability of 0 draws nothing.
Geometry draw_geometry(const AugmentSpec& spec, ImageSize image, SampleRandom& random);

}  // namespace lds
