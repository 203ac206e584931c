#include "transform/sample.h"

#include <algorithm>
#include <cstring>

#include "transform/crop.h"

namespace lds {
namespace {

template <class View, class Byte>
View view_of(Byte* data, int height, int width, int channels, bool planar) {
  return planar ? View::chw(data, height, width, channels) : View::hwc(data, height, width, channels);
}

}  // namespace

SampleMaker::SampleMaker(const SampleSpec& spec) : spec_(spec) {
  check(spec);
  std::copy(spec.multiply.begin(), spec.multiply.end(), scale_.multiply);
  std::copy(spec.add.begin(), spec.add.end(), scale_.add);
}

void SampleMaker::make(const uint8_t* image, SampleRandom& random, uint8_t* out, bool stream,
                       SampleScratch& scratch) const {
  Crop crop = choose_crop(spec_, random);
  const bool flip = spec_.flip > 0 && random.uniform() < spec_.flip;
  if (spec_.row_type != PixelType::uint8) {
    copy_floats(image, crop, flip, out);
    return;
  }
  auto source = view_of<ConstImageView>(image, spec_.height, spec_.width, spec_.channels, spec_.planar_rows);
  if (spec_.crop == CropMode::random_resized) {
    source = resize(source, crop, scratch);
    crop = {0, 0, spec_.out_width, spec_.out_height};
  }
  scratch.lines.begin(source, crop, flip, spec_.planar_out);
  convert(scratch.lines, out, stream);
}

// The crop of `source`, resized to the output's size in the scratch, in the source's own layout.
ConstImageView SampleMaker::resize(const ConstImageView& source, const Crop& crop, SampleScratch& scratch) const {
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
  scratch.resized.resize(static_cast<size_t>(spec_.out_width) * static_cast<size_t>(spec_.out_height) *
                         static_cast<size_t>(spec_.channels));
  const auto out =
      view_of<ImageView>(scratch.resized.data(), spec_.out_height, spec_.out_width, spec_.channels, spec_.planar_rows);
  scratch.resizer.resize(part, resize, out);
  return out;
}

void SampleMaker::convert(Lines& lines, uint8_t* out, bool stream) const {
  const ConvertKernels& kernels = convert_kernels();
  const bool planar = spec_.planar_out || spec_.channels == 1;
  const int per_run = planar ? 1 : spec_.channels;
  const int64_t run_lines = lines.contiguous() ? spec_.out_height : 1;
  const int64_t pixels = run_lines * spec_.out_width;
  const int64_t run_bytes = pixels * per_run * pixel_bytes(spec_.out_type);
  const int64_t plane_bytes = int64_t{spec_.out_height} * spec_.out_width * pixel_bytes(spec_.out_type);
  for (int y = 0; y < spec_.out_height; y += static_cast<int>(run_lines)) {
    for (int c = 0; c < (planar ? spec_.channels : 1); ++c) {
      Scale scale_of_run = scale_;
      if (planar) scale_of_run = {{scale_.multiply[c], 0, 0, 0}, {scale_.add[c], 0, 0, 0}};
      kernels.pixels(lines.line(y, c), pixels, per_run, scale_of_run, spec_.out_type,
                     out + c * (planar ? plane_bytes : 0) + y / run_lines * run_bytes, stream);
    }
  }
}

// Images that are floats already only need crop, flip and layout: as a whole, or else value by value.
void SampleMaker::copy_floats(const uint8_t* image, const Crop& crop, bool flip, uint8_t* out) const {
  const bool as_it_is = spec_.crop == CropMode::none && !flip && spec_.planar_rows == spec_.planar_out;
  if (as_it_is) {
    std::memcpy(out, image, static_cast<size_t>(spec_.bytes()));
    return;
  }
  const auto bytes = static_cast<size_t>(pixel_bytes(spec_.row_type));
  for (int c = 0; c < spec_.channels; ++c) {
    uint8_t pad[4] = {};
    convert_kernels().pixels(pad, 1, 1, {{0, 0, 0, 0}, {scale_.add[c], 0, 0, 0}}, spec_.row_type, pad, false);
    for (int y = 0; y < spec_.out_height; ++y) {
      for (int x = 0; x < spec_.out_width; ++x) {
        const int from_y = crop.y + y;
        const int from_x = crop.x + (flip ? spec_.out_width - 1 - x : x);
        const bool inside = from_y >= 0 && from_y < spec_.height && from_x >= 0 && from_x < spec_.width;
        const int64_t from = spec_.planar_rows ? (int64_t{c} * spec_.height + from_y) * spec_.width + from_x
                                               : (int64_t{from_y} * spec_.width + from_x) * spec_.channels + c;
        const int64_t to = spec_.planar_out ? (int64_t{c} * spec_.out_height + y) * spec_.out_width + x
                                            : (int64_t{y} * spec_.out_width + x) * spec_.channels + c;
        std::memcpy(out + to * static_cast<int64_t>(bytes), inside ? image + from * static_cast<int64_t>(bytes) : pad,
                    bytes);
      }
    }
  }
}

}  // namespace lds
