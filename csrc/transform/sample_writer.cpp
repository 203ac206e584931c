#include "transform/sample_writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "common/error.h"

namespace lds {
namespace {

void set_channels(const char* name, const std::vector<float>& values, int channels, float (&out)[4]) {
  if (values.empty()) return;
  if (values.size() != static_cast<size_t>(channels)) {
    throw Error(Reason::value, std::string(name) + ": expected " + std::to_string(channels) +
                                   " numbers, one per channel, found " + std::to_string(values.size()));
  }
  if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
    throw Error(Reason::value, "mean and std must be finite, and std not 0");
  }
  std::copy(values.begin(), values.end(), out);
}

// The value of a padding pixel, which is 0, after normalisation.
void write_padding(const Scale& scale, int channel, PixelType type, uint8_t (&out)[4]) {
  const uint8_t zero[1] = {};
  convert_kernels().pixels(zero, 1, 1, {{0, 0, 0, 0}, {scale.add[channel], 0, 0, 0}}, type, out, false);
}

}  // namespace

SampleWriter::SampleWriter(const ImageLayout& images, const AugmentSpec& augment, const OutputSpec& output)
    : channels_(images.channels),
      image_type_(images.type),
      size_(sample_size(augment, images.size)),
      filter_(output.filter.value_or(augment.filter)),
      output_(output),
      scale_{{1.0F / 255, 1.0F / 255, 1.0F / 255, 1.0F / 255}, {0, 0, 0, 0}} {
  check(images);
  check(augment, images.size);
  if (images.type != PixelType::uint8) {
    if (images.type != output.type)
      throw Error(Reason::value, "a store of floats can only give batches of its own dtype");
    if (augment.crop == CropMode::random_resized || augment.resize.height > 0) {
      throw Error(Reason::value, "a store of floats can't be resized; pack it as uint8");
    }
  }
  set_channels("multiply", output.multiply, channels_, scale_.multiply);
  set_channels("add", output.add, channels_, scale_.add);
}

void SampleWriter::write(ImageReader& image, ImageSize image_size, const Geometry& geometry, uint8_t* out, bool stream,
                         SampleScratch& scratch) const {
  if (geometry.resizes()) {
    const ConstImageView resized = resize(image, geometry, scratch);
    scratch.reader.begin(resized, {0, 0, size_.width, size_.height}, geometry.flip, output_.planar);
    convert(scratch.reader, out, stream);
    return;
  }
  const ConstImageView inside = image.read(geometry.inside(image_size));
  // the box, relative to the first pixel of `inside`
  const int left = std::min(geometry.box.x0, 0);
  const int top = std::min(geometry.box.y0, 0);
  const IntBox box{left, top, left + geometry.box.width(), top + geometry.box.height()};
  if (image_type_ != PixelType::uint8) {
    copy_floats(inside, box, geometry.flip, out);
    return;
  }
  scratch.reader.begin(inside, box, geometry.flip, output_.planar, static_cast<uint8_t>(output_.padding));
  convert(scratch.reader, out, stream);
}

// Resizes the box. The part that the sample shows is in the scratch, in the layout of the output.
ConstImageView SampleWriter::resize(ImageReader& image, const Geometry& geometry, SampleScratch& scratch) const {
  ResizeSpec spec;
  spec.in_width = geometry.box.width();
  spec.in_height = geometry.box.height();
  spec.channels = channels_;
  spec.box[2] = static_cast<float>(spec.in_width);
  spec.box[3] = static_cast<float>(spec.in_height);
  spec.out_width = geometry.resized.width;
  spec.out_height = geometry.resized.height;
  spec.crop = geometry.part;
  spec.filter = filter_;
  const ImageLayout layout{channels_, size_, output_.planar, PixelType::uint8};
  scratch.resized.resize(static_cast<size_t>(layout.bytes()));
  const ImageView out = layout.view(scratch.resized.data());
  image.resize(geometry.box, spec, scratch.resizer, out);
  return out;
}

void SampleWriter::convert(CropReader& reader, uint8_t* out, bool stream) const {
  const ConvertKernels& kernels = convert_kernels();
  const bool planar = output_.planar || channels_ == 1;
  const int per_run = planar ? 1 : channels_;
  const int64_t run_lines = reader.contiguous() ? size_.height : 1;
  const int64_t pixels = run_lines * size_.width;
  const int64_t run_bytes = pixels * per_run * pixel_bytes(output_.type);
  const int64_t plane_bytes = int64_t{size_.height} * size_.width * pixel_bytes(output_.type);
  for (int y = 0; y < size_.height; y += static_cast<int>(run_lines)) {
    for (int c = 0; c < (planar ? channels_ : 1); ++c) {
      Scale scale = scale_;
      if (planar) scale = {{scale_.multiply[c], 0, 0, 0}, {scale_.add[c], 0, 0, 0}};
      kernels.pixels(reader.line(y, c), pixels, per_run, scale, output_.type,
                     out + c * (planar ? plane_bytes : 0) + y / run_lines * run_bytes, stream);
    }
  }
}

// Crops, flips and lays out images that are floats already: with one memcpy if nothing changes, else value by value.
void SampleWriter::copy_floats(const ConstImageView& inside, const IntBox& box, bool flip, uint8_t* out) const {
  const ImageLayout layout{channels_, size_, output_.planar, output_.type};
  const ImageView to = layout.view(out);
  const bool same_layout = inside.row_stride == to.row_stride && inside.pixel_stride == to.pixel_stride &&
                           inside.channel_stride == to.channel_stride;
  if (same_layout && !flip && box == IntBox{0, 0, inside.width, inside.height}) {
    std::memcpy(out, inside.data, static_cast<size_t>(bytes()));
    return;
  }
  const auto value_bytes = static_cast<size_t>(pixel_bytes(output_.type));
  for (int c = 0; c < channels_; ++c) {
    uint8_t padding[4] = {};
    write_padding(scale_, c, output_.type, padding);
    for (int y = 0; y < size_.height; ++y) {
      for (int x = 0; x < size_.width; ++x) {
        const int from_y = box.y0 + y;
        const int from_x = box.x0 + (flip ? size_.width - 1 - x : x);
        const bool is_inside = from_y >= 0 && from_y < inside.height && from_x >= 0 && from_x < inside.width;
        const uint8_t* from = padding;
        if (is_inside) from = inside.row(from_y) + from_x * inside.pixel_stride + c * inside.channel_stride;
        std::memcpy(to.row(y) + x * to.pixel_stride + c * to.channel_stride, from, value_bytes);
      }
    }
  }
}

}  // namespace lds
