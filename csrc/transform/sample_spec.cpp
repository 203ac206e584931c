#include "transform/sample_spec.h"

#include <cmath>
#include <string>

#include "common/error.h"

namespace lds {
namespace {

Error bad(const std::string& message) { return {Reason::value, message}; }

std::string size_text(int height, int width) { return std::to_string(height) + "x" + std::to_string(width); }

void check_crop(const SampleSpec& spec) {
  const std::string out = size_text(spec.out_height, spec.out_width);
  const std::string in = size_text(spec.height, spec.width);
  if (spec.crop == CropMode::none && (spec.out_height != spec.height || spec.out_width != spec.width)) {
    throw bad("without a crop a batch has the images' size " + in + ", found " + out);
  }
  if (spec.crop == CropMode::random &&
      (spec.out_height > spec.height + 2 * spec.padding || spec.out_width > spec.width + 2 * spec.padding)) {
    throw bad("a random crop of " + out + " does not fit into images of " + in + " with a padding of " +
              std::to_string(spec.padding) + "; a larger padding helps");
  }
  if (spec.crop == CropMode::center && (spec.out_height > spec.height || spec.out_width > spec.width)) {
    throw bad("a crop of " + out + " does not fit into images of " + in);
  }
  if (spec.crop == CropMode::random_resized) {
    if (spec.row_type != PixelType::uint8) throw bad("a store of floats can't be resized; pack it as uint8");
    if (!(spec.scale[0] > 0 && spec.scale[0] <= spec.scale[1] && spec.scale[1] <= 1 && spec.ratio[0] > 0 &&
          spec.ratio[0] <= spec.ratio[1] && std::isfinite(spec.ratio[1]))) {
      throw bad("expected 0 < scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1]");
    }
  }
}

}  // namespace

void check(const SampleSpec& spec) {
  if (spec.channels < 1 || spec.channels > 4) {
    throw bad("expected 1 to 4 channels, found " + std::to_string(spec.channels));
  }
  if (spec.height < 1 || spec.width < 1 || spec.out_height < 1 || spec.out_width < 1) {
    throw bad("expected sizes of at least 1, found images of " + size_text(spec.height, spec.width) +
              " and a batch of " + size_text(spec.out_height, spec.out_width));
  }
  if (spec.row_type != PixelType::uint8 && spec.row_type != spec.out_type) {
    throw bad("a store of floats gives batches of its own type");
  }
  if (spec.padding < 0) throw bad("padding must not be negative, found " + std::to_string(spec.padding));
  if (!(spec.flip >= 0 && spec.flip <= 1)) throw bad("flip is a probability, found " + std::to_string(spec.flip));
  for (int c = 0; c < spec.channels; ++c) {
    if (!std::isfinite(spec.multiply[static_cast<size_t>(c)]) || !std::isfinite(spec.add[static_cast<size_t>(c)])) {
      throw bad("mean and std must be finite, and std not 0");
    }
  }
  check_crop(spec);
}

}  // namespace lds
