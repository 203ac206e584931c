#include "pack/versions.h"

#include <cstring>

#include "common/error.h"
#include "gather/crop.h"
#include "gather/random.h"

namespace lds {
namespace {

template <class View, class Byte>
View view_of(Byte* data, int height, int width, int channels, bool planar) {
  return planar ? View::chw(data, height, width, channels) : View::hwc(data, height, width, channels);
}

}  // namespace

Versions::Versions(const GatherSpec& spec, uint64_t seed) : spec_(spec), seed_(seed) {
  if (spec.row_type != PixelType::uint8 || spec.out_type != PixelType::uint8 || spec.planar_rows != spec.planar_out) {
    throw Error(Reason::value, "versions of an image are uint8, in the image's own layout");
  }
}

int64_t Versions::bytes() const noexcept { return int64_t{spec_.out_height} * spec_.out_width * spec_.channels; }

void Versions::make(const uint8_t* image, int64_t sample, int version, uint8_t* out) {
  SampleRandom random(seed_, static_cast<uint64_t>(version), static_cast<uint64_t>(sample));
  const Crop crop = choose_crop(spec_, random);
  const bool flip = spec_.flip > 0 && random.uniform() < spec_.flip;
  const auto source = view_of<ConstImageView>(image, spec_.height, spec_.width, spec_.channels, spec_.planar_rows);
  if (spec_.crop == CropMode::random_resized) {
    resized(source, crop, flip, out);
  } else {
    copy(source, crop, flip, out);
  }
}

void Versions::resized(const ConstImageView& source, const Crop& crop, bool flip, uint8_t* out) {
  ConstImageView part = source;
  part.data += crop.y * source.row_stride + crop.x * source.pixel_stride;
  part.width = crop.width;
  part.height = crop.height;
  ResizeSpec resize;
  resize.in_width = crop.width;
  resize.in_height = crop.height;
  resize.channels = spec_.channels;
  resize.box[2] = static_cast<float>(crop.width);
  resize.box[3] = static_cast<float>(crop.height);
  resize.out_width = spec_.out_width;
  resize.out_height = spec_.out_height;
  resize.crop = {0, 0, spec_.out_width, spec_.out_height};
  scratch_.resize(static_cast<size_t>(bytes()));
  uint8_t* target = flip ? scratch_.data() : out;
  const auto view = view_of<ImageView>(target, spec_.out_height, spec_.out_width, spec_.channels, spec_.planar_rows);
  resize_image(part, resize, view, resizer_);
  if (flip) copy(view, {0, 0, spec_.out_width, spec_.out_height}, true, out);
}

void Versions::copy(const ConstImageView& source, const Crop& crop, bool flip, uint8_t* out) {
  lines_.begin(source, crop, flip, spec_.planar_out);
  const bool planar = spec_.planar_out || spec_.channels == 1;
  const int64_t line_bytes = int64_t{spec_.out_width} * (planar ? 1 : spec_.channels);
  for (int c = 0; c < (planar ? spec_.channels : 1); ++c) {
    for (int y = 0; y < spec_.out_height; ++y) {
      std::memcpy(out + (int64_t{c} * spec_.out_height + y) * line_bytes, lines_.line(y, c),
                  static_cast<size_t>(line_bytes));
    }
  }
}

}  // namespace lds
