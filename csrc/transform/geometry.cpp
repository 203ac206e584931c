#include "transform/geometry.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "common/error.h"
#include "common/size_text.h"

namespace lds {
namespace {

constexpr int kMaxPadding = 1 << 24;  // small enough that sums of sizes never overflow an int

Error value_error(const std::string& message) { return {Reason::value, message}; }

void check_probability(const char* name, double value) {
  if (value >= 0 && value <= 1) return;
  throw value_error(std::string(name) + " is a probability, found " + std::to_string(value));
}

bool fits(ImageSize inner, ImageSize outer, int padding) noexcept {
  return inner.height <= outer.height + 2 * padding && inner.width <= outer.width + 2 * padding;
}

// Python's round(): half to even, in the default rounding mode.
int round_half_even(double x) { return static_cast<int>(std::nearbyint(x)); }

IntBox box_at(int x, int y, ImageSize size) noexcept { return {x, y, x + size.width, y + size.height}; }

IntBox center_crop(ImageSize size, ImageSize image) {
  return box_at(round_half_even((image.width - size.width) / 2.0), round_half_even((image.height - size.height) / 2.0),
                size);
}

IntBox random_crop(const AugmentSpec& spec, ImageSize image, SampleRandom& random) {
  const int y = static_cast<int>(random.below(image.height + 2 * spec.padding - spec.size.height + 1));
  const int x = static_cast<int>(random.below(image.width + 2 * spec.padding - spec.size.width + 1));
  return box_at(x - spec.padding, y - spec.padding, spec.size);
}

// The algorithm of torchvision.transforms.RandomResizedCrop.get_params.
IntBox random_resized_crop(const AugmentSpec& spec, ImageSize image, SampleRandom& random) {
  const double area = double{1} * image.height * image.width;
  const double log_low = std::log(spec.ratio[0]);
  const double log_high = std::log(spec.ratio[1]);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * (spec.scale[0] + (spec.scale[1] - spec.scale[0]) * random.uniform());
    const double aspect = std::exp(log_low + (log_high - log_low) * random.uniform());
    const int width = round_half_even(std::sqrt(target * aspect));
    const int height = round_half_even(std::sqrt(target / aspect));
    if (width < 1 || width > image.width || height < 1 || height > image.height) continue;
    const int y = static_cast<int>(random.below(image.height - height + 1));
    const int x = static_cast<int>(random.below(image.width - width + 1));
    return box_at(x, y, {height, width});
  }
  const double aspect = double{1} * image.width / image.height;
  ImageSize part = image;
  if (aspect < spec.ratio[0]) {
    part.height = std::clamp(round_half_even(image.width / spec.ratio[0]), 1, image.height);
  } else if (aspect > spec.ratio[1]) {
    part.width = std::clamp(round_half_even(image.height * spec.ratio[1]), 1, image.width);
  }
  return box_at((image.width - part.width) / 2, (image.height - part.height) / 2, part);
}

// The geometry of a box that is not resized.
Geometry cut_out(const IntBox& box) noexcept { return {box, box.size(), box_at(0, 0, box.size())}; }

// Resizes the whole image and crops the result.
Geometry resize_and_crop(const AugmentSpec& spec, ImageSize image) {
  const ImageSize resized = resized_size(spec.resize, image);
  if (!fits(spec.size, resized, 0)) {
    throw Error(Reason::shape, "a crop of " + size_text(spec.size) + " does not fit into an image of " +
                                   size_text(image) + " that is resized to " + size_text(resized));
  }
  const IntBox part = center_crop(spec.size, resized);
  return resized == image ? cut_out(part) : Geometry{box_at(0, 0, image), resized, part};
}

Geometry draw_crop(const AugmentSpec& spec, ImageSize image, SampleRandom& random) {
  switch (spec.crop) {
    case CropMode::center:
      return spec.resize.height > 0 ? resize_and_crop(spec, image) : cut_out(center_crop(spec.size, image));
    case CropMode::random: return cut_out(random_crop(spec, image, random));
    case CropMode::random_resized:
      return {random_resized_crop(spec, image, random), spec.size, box_at(0, 0, spec.size)};
    case CropMode::none: break;
  }
  return cut_out(box_at(0, 0, image));
}

}  // namespace

ImageSize resized_size(ImageSize resize, ImageSize image) {
  int64_t height = resize.height, width = resize.width;
  if (height == 0) return image;
  if (width == 0) {  // torchvision's Resize: int(size * long / short) in double precision
    const int64_t size = resize.height;
    const bool wide = image.width > image.height;
    height = wide ? size : static_cast<int64_t>(static_cast<double>(size * image.height) / image.width);
    width = wide ? static_cast<int64_t>(static_cast<double>(size * image.width) / image.height) : size;
  }
  if (std::max(width, height) > INT32_MAX / 4) throw Error(Reason::too_large, "the resized image would be too large");
  return {static_cast<int>(height), static_cast<int>(width)};
}

void check(const AugmentSpec& spec, ImageSize image) {
  if (spec.padding < 0 || spec.padding > kMaxPadding) {
    throw value_error("padding: expected 0 to " + std::to_string(kMaxPadding) + ", found " +
                      std::to_string(spec.padding));
  }
  check_probability("flip", spec.flip);
  check_probability("vertical_flip", spec.vertical_flip);
  if (spec.crop == CropMode::none) return;
  if (spec.size.height < 1 || spec.size.width < 1) {
    throw value_error("expected a crop of at least 1x1, found " + size_text(spec.size));
  }
  if (spec.crop == CropMode::random && !fits(spec.size, image, spec.padding)) {
    throw value_error("a random crop of " + size_text(spec.size) + " does not fit into images of " + size_text(image) +
                      " with a padding of " + std::to_string(spec.padding) + "; use a larger padding");
  }
  if (spec.resize.height < 0 || spec.resize.width < 0 || (spec.resize.width > 0 && spec.resize.height == 0)) {
    throw value_error("resize: expected a side or a height and a width, found " + size_text(spec.resize));
  }
  if (spec.crop == CropMode::center) {
    const ImageSize resized = resized_size(spec.resize, image);
    if (!fits(spec.size, resized, 0)) {
      throw value_error("a crop of " + size_text(spec.size) + " does not fit into " +
                        (resized == image ? "" : "resized ") + "images of " + size_text(resized));
    }
  } else if (spec.resize.height > 0) {
    throw value_error("resize is for a center crop");
  }
  if (spec.crop == CropMode::random_resized &&
      !(spec.scale[0] > 0 && spec.scale[0] <= spec.scale[1] && spec.scale[1] <= 1 && spec.ratio[0] > 0 &&
        spec.ratio[0] <= spec.ratio[1] && std::isfinite(spec.ratio[1]))) {
    throw value_error("expected 0 < scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1], found scale (" +
                      std::to_string(spec.scale[0]) + ", " + std::to_string(spec.scale[1]) + ") and ratio (" +
                      std::to_string(spec.ratio[0]) + ", " + std::to_string(spec.ratio[1]) + ")");
  }
}

ImageSize sample_size(const AugmentSpec& spec, ImageSize image) noexcept {
  return spec.crop == CropMode::none ? image : spec.size;
}

IntBox Geometry::inside(ImageSize image) const noexcept {
  IntBox part{std::max(box.x0, 0), std::max(box.y0, 0), std::min(box.x1, image.width), std::min(box.y1, image.height)};
  part.x1 = std::max(part.x0, part.x1);
  part.y1 = std::max(part.y0, part.y1);
  return part;
}

Geometry draw_geometry(const AugmentSpec& spec, ImageSize image, SampleRandom& random) {
  Geometry geometry = draw_crop(spec, image, random);
  geometry.flip = spec.flip > 0 && random.uniform() < spec.flip;
  geometry.vertical_flip = spec.vertical_flip > 0 && random.uniform() < spec.vertical_flip;
  return geometry;
}

}  // namespace lds
