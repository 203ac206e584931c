// What becomes of one stored image on its way into a batch, or ahead of time into a store.
#pragma once

#include <array>
#include <cstdint>

#include "convert/convert.h"

namespace lds {

enum class CropMode : uint8_t {
  none,            // the whole image
  center,          // torchvision's center_crop
  random,          // uniform position, after zero padding by `padding` on each side
  random_resized,  // torchvision's RandomResizedCrop: scale, ratio, ten tries, then a centre crop
};

struct SampleSpec {
  // the image as it is stored
  int channels = 3, height = 0, width = 0;
  bool planar_rows = true;                // CHW, else HWC
  PixelType row_type = PixelType::uint8;  // uint8; floats pass through, without resizing
  // what is made of it
  int out_height = 0, out_width = 0;
  bool planar_out = true;  // CHW, else HWC (channels_last)
  PixelType out_type = PixelType::float32;
  // what happens on the way
  CropMode crop = CropMode::none;
  int padding = 0;
  double scale[2] = {0.08, 1.0}, ratio[2] = {3.0 / 4.0, 4.0 / 3.0};
  double flip = 0.0;  // probability of a horizontal flip
  // float output = uint8 * multiply[c] + add[c]; the caller folds 1/255, mean and std into these.
  // Padding is uint8 0 before that, so add[c] is also what pads images that are floats already.
  std::array<float, 4> multiply{{1.0f / 255, 1.0f / 255, 1.0f / 255, 1.0f / 255}};
  std::array<float, 4> add{{0, 0, 0, 0}};

  int64_t bytes() const noexcept { return int64_t{channels} * height * width * pixel_bytes(row_type); }
  int64_t out_bytes() const noexcept { return int64_t{channels} * out_height * out_width * pixel_bytes(out_type); }
};

// Error(Reason::value) naming expected and found unless the parts fit together.
void check(const SampleSpec& spec);

}  // namespace lds
