#include "transform/sample_writer.h"

#include <algorithm>
#include <cmath>
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

bool is_wide(const ImageLayout& images) noexcept { return images.type != PixelType::uint8 || images.channels > 4; }

}  // namespace

SampleWriter::SampleWriter(const ImageLayout& images, const AugmentSpec& augment, const OutputSpec& output)
    : channels_(images.channels),
      size_(sample_size(augment, images.size)),
      filter_(output.filter.value_or(augment.filter)),
      output_(output),
      scale_{{1.0F / 255, 1.0F / 255, 1.0F / 255, 1.0F / 255}, {0, 0, 0, 0}} {
  check(images);
  check(augment, images.size);
  if (is_wide(images)) {
    const bool resizes = augment.crop == CropMode::random_resized || augment.resize.height > 0;
    wide_.emplace(images, size_, resizes, filter_, output);
    return;
  }
  if (output.type != PixelType::uint8 && !is_float(output.type)) {
    throw Error(Reason::value,
                std::string("dtype: images of uint8 give batches of uint8, float32, float16 or bfloat16, "
                            "found ") +
                    pixel_type_name(output.type));
  }
  if (!(output.padding >= 0 && output.padding <= 255 && output.padding == std::nearbyint(output.padding))) {
    throw Error(Reason::value,
                "padding: expected a value of uint8, the type of the images, found " + std::to_string(output.padding));
  }
  set_channels("multiply", output.multiply, channels_, scale_.multiply);
  set_channels("add", output.add, channels_, scale_.add);
}

void SampleWriter::write(ImageReader& image, ImageSize image_size, const Geometry& geometry, uint8_t* out, bool stream,
                         SampleScratch& scratch) const {
  if (wide_) {
    wide_->write(image, image_size, geometry, out, scratch.wide);
    return;
  }
  if (geometry.resizes()) {
    const ConstImageView resized = resize(image, geometry, scratch);
    scratch.reader.begin(resized, {0, 0, size_.width, size_.height}, geometry.flip, output_.planar);
    convert(scratch.reader, geometry.vertical_flip, out, stream);
    return;
  }
  const ConstImageView inside = image.read(geometry.inside(image_size));
  // the box, relative to the first pixel of `inside`
  const int left = std::min(geometry.box.x0, 0);
  const int top = std::min(geometry.box.y0, 0);
  const IntBox box{left, top, left + geometry.box.width(), top + geometry.box.height()};
  scratch.reader.begin(inside, box, geometry.flip, output_.planar, static_cast<uint8_t>(output_.padding));
  convert(scratch.reader, geometry.vertical_flip, out, stream);
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
  // never smaller: pictures and views of other sizes follow, and what a vector grows by is zeroed
  const auto bytes = static_cast<size_t>(layout.bytes());
  if (scratch.resized.size() < bytes) scratch.resized.resize(bytes);
  const ImageView out = layout.view(scratch.resized.data());
  image.resize(geometry.box, spec, scratch.resizer, out);
  return out;
}

void SampleWriter::convert(CropReader& reader, bool upside_down, uint8_t* out, bool stream) const {
  const ConvertKernels& kernels = convert_kernels();
  const bool planar = output_.planar || channels_ == 1;
  const int per_run = planar ? 1 : channels_;
  const int64_t run_lines = reader.contiguous() && !upside_down ? size_.height : 1;
  const int64_t pixels = run_lines * size_.width;
  const int64_t run_bytes = pixels * per_run * pixel_bytes(output_.type);
  const int64_t plane_bytes = int64_t{size_.height} * size_.width * pixel_bytes(output_.type);
  for (int y = 0; y < size_.height; y += static_cast<int>(run_lines)) {
    const int line = upside_down ? size_.height - 1 - y : y;
    for (int c = 0; c < (planar ? channels_ : 1); ++c) {
      Scale scale = scale_;
      if (planar) scale = {{scale_.multiply[c], 0, 0, 0}, {scale_.add[c], 0, 0, 0}};
      kernels.pixels(reader.line(line, c), pixels, per_run, scale, output_.type,
                     out + c * (planar ? plane_bytes : 0) + y / run_lines * run_bytes, stream);
    }
  }
}

}  // namespace lds
