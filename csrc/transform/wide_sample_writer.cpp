#include "transform/wide_sample_writer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "common/error.h"
#include "convert/scalar.h"

namespace lds {
namespace {

constexpr int64_t kBlock = 512;  // values; small enough for the nearest cache

Error value_error(const std::string& message) { return {Reason::value, message}; }

template <class Integer>
uint64_t integer_bits(double value, PixelType type) {
  const auto low = static_cast<double>(std::numeric_limits<Integer>::min());
  const auto high = static_cast<double>(std::numeric_limits<Integer>::max());
  // 2^63 - 1 is rounded to 2^63 as a double
  if (!(value >= low && value <= high && value == std::nearbyint(value)) || value >= 0x1p63) {
    throw value_error("padding: expected a value of " + std::string(pixel_type_name(type)) +
                      ", the type of the images, "
                      "found " +
                      std::to_string(value));
  }
  const auto integer = static_cast<Integer>(value);
  uint64_t bits = 0;
  std::memcpy(&bits, &integer, sizeof(Integer));
  return bits;
}

uint64_t bits_of(double value, PixelType type) {
  if (is_float(type) && !std::isfinite(value)) throw value_error("padding: expected a finite number");
  const auto single = static_cast<float>(value);
  switch (type) {
    case PixelType::uint8: return integer_bits<uint8_t>(value, type);
    case PixelType::uint16: return integer_bits<uint16_t>(value, type);
    case PixelType::int16: return integer_bits<int16_t>(value, type);
    case PixelType::int32: return integer_bits<int32_t>(value, type);
    case PixelType::int64: return integer_bits<int64_t>(value, type);
    case PixelType::float16: return to_float16(single);
    case PixelType::bfloat16: return to_bfloat16(single);
    case PixelType::float32: break;
  }
  return std::bit_cast<uint32_t>(single);
}

std::vector<float> per_channel(const char* name, const std::vector<float>& values, int channels, float otherwise) {
  if (values.empty()) return std::vector<float>(static_cast<size_t>(channels), otherwise);
  if (values.size() != static_cast<size_t>(channels)) {
    throw value_error(std::string(name) + ": expected " + std::to_string(channels) +
                      " numbers, one per channel, found " + std::to_string(values.size()));
  }
  if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
    throw value_error("mean and std must be finite, and std not 0");
  }
  return values;
}

}  // namespace

float unit_of(PixelType type) noexcept {
  switch (type) {
    case PixelType::uint8: return 1.0F / 255;
    case PixelType::uint16: return 1.0F / 65535;
    case PixelType::int16: return 1.0F / 32768;
    default: return 1.0F;
  }
}

WideSampleWriter::WideSampleWriter(const ImageLayout& images, ImageSize size, bool resizes, Filter filter,
                                   const OutputSpec& output)
    : channels_(images.channels),
      image_type_(images.type),
      type_(output.type),
      size_(size),
      filter_(filter),
      planar_(output.planar || images.channels == 1),
      padding_(bits_of(output.padding, images.type)) {
  check_types(resizes);
  set_scale(output);
}

void WideSampleWriter::check_types(bool resizes) const {
  const std::string stored = pixel_type_name(image_type_);
  const bool indices = image_type_ == PixelType::int32 || image_type_ == PixelType::int64;
  if (type_ != image_type_ && (indices || !is_float(type_))) {
    throw value_error("dtype: images of " + stored + " give batches of " + stored +
                      (indices ? "" : ", float32, float16 or bfloat16") + ", found " + pixel_type_name(type_));
  }
  if (resizes && indices && filter_ != Filter::nearest) {
    throw value_error("images of " + stored +
                      " can only be resized by nearest, as their values are numbers of classes");
  }
}

void WideSampleWriter::set_scale(const OutputSpec& output) {
  const std::vector<float> multiply = per_channel("multiply", output.multiply, channels_, unit_of(image_type_));
  const std::vector<float> add = per_channel("add", output.add, channels_, 0.0F);
  const auto all = [](const std::vector<float>& values, float expected) {
    return std::all_of(values.begin(), values.end(), [&](float value) { return value == expected; });
  };
  scales_ = is_float(type_) && !(all(multiply, 1.0F) && all(add, 0.0F));
  block_ = planar_ ? kBlock : kBlock / channels_ * channels_;
  const int64_t values = planar_ ? channels_ * block_ : block_;
  for (int64_t i = 0; i < values; ++i) {
    const auto c = static_cast<size_t>(planar_ ? i / block_ : i % channels_);
    multiply_.push_back(multiply[c]);
    add_.push_back(add[c]);
  }
}

void WideSampleWriter::write(ImageReader& image, ImageSize image_size, const Geometry& geometry, uint8_t* out,
                             WideScratch& scratch) const {
  const IntBox inside = geometry.inside(image_size);
  write(image.read(inside), inside, geometry, out, scratch);
}

void WideSampleWriter::write(const ConstImageView& pixels, const IntBox& inside, const Geometry& geometry, uint8_t* out,
                             WideScratch& scratch) const {
  ValueLines& lines = scratch.lines;
  ValueLines::Format format{pixel_bytes(image_type_), planar_, geometry.flip, padding_};
  if (!geometry.resizes()) {
    // the box, relative to the first pixel that was read
    const int left = geometry.box.x0 - inside.x0;
    const int top = geometry.box.y0 - inside.y0;
    lines.begin(pixels, {left, top, left + size_.width, top + size_.height}, format);
    write_lines(lines, image_type_, geometry.vertical_flip, out);
  } else if (filter_ == Filter::nearest) {
    set_nearest(pixels, geometry, format, scratch);
    write_lines(lines, image_type_, geometry.vertical_flip, out);
  } else {
    format.value_bytes = pixel_bytes(PixelType::float32);
    lines.begin(resize(pixels, geometry, scratch), {0, 0, size_.width, size_.height}, format);
    write_lines(lines, PixelType::float32, geometry.vertical_flip, out);
  }
}

// What the sample shows of the resized box, as floats in the layout of the source.
ConstImageView WideSampleWriter::resize(const ConstImageView& box, const Geometry& geometry,
                                        WideScratch& scratch) const {
  ResizeSpec spec;
  spec.in_width = box.width;
  spec.in_height = box.height;
  spec.channels = channels_;
  spec.out_width = geometry.resized.width;
  spec.out_height = geometry.resized.height;
  spec.crop = geometry.part;
  spec.filter = filter_;
  const bool planar = box.pixel_stride == pixel_bytes(image_type_);
  const ImageLayout layout{channels_, size_, planar, PixelType::float32};
  const size_t values = static_cast<size_t>(layout.bytes()) / sizeof(float);
  if (scratch.resized.size() < values) scratch.resized.resize(values);
  scratch.resizer.resize(box, image_type_, spec, scratch.resized.data());
  return layout.view(reinterpret_cast<const uint8_t*>(scratch.resized.data()));
}

void WideSampleWriter::set_nearest(const ConstImageView& box, const Geometry& geometry,
                                   const ValueLines::Format& format, WideScratch& scratch) const {
  const auto axis = [](int in_size, int out_size, int crop0, int crop1) {
    AxisGeometry made{in_size, out_size, 0, static_cast<float>(in_size), crop0, crop1, Filter::nearest, true, false};
    made.copy = in_size == out_size;
    return made;
  };
  scratch.columns.compute(axis(box.width, geometry.resized.width, geometry.part.x0, geometry.part.x1));
  scratch.rows.compute(axis(box.height, geometry.resized.height, geometry.part.y0, geometry.part.y1));
  scratch.lines.begin(box, scratch.columns, scratch.rows, format);
}

void WideSampleWriter::write_lines(ValueLines& lines, PixelType type, bool upside_down, uint8_t* out) const {
  const int64_t run_lines = lines.contiguous() && !upside_down ? size_.height : 1;
  const int64_t values = run_lines * size_.width * (planar_ ? 1 : channels_);
  const int64_t plane_values = int64_t{size_.height} * size_.width;
  const int64_t bytes = pixel_bytes(type_);
  for (int c = 0; c < (planar_ ? channels_ : 1); ++c) {
    for (int64_t y = 0; y < size_.height; y += run_lines) {
      const int64_t at = (planar_ ? c * plane_values : 0) + y / run_lines * values;
      const int64_t line = upside_down ? size_.height - 1 - y : y;
      write_run(lines.line(static_cast<int>(line), c), type, values, c, out + at * bytes);
    }
  }
}

// Writes n values, of one channel if the output is planar, else of whole pixels.
void WideSampleWriter::write_run(const uint8_t* values, PixelType type, int64_t n, int channel, uint8_t* out) const {
  if (type == type_ && !scales_) {
    std::memcpy(out, values, static_cast<size_t>(n * pixel_bytes(type)));
    return;
  }
  const ValueKernels& kernels = value_kernels();
  const int64_t offset = planar_ ? channel * block_ : 0;
  std::array<float, kBlock> block;
  for (int64_t at = 0; at < n; at += block_) {
    const int64_t count = std::min(block_, n - at);
    kernels.widen(values + at * pixel_bytes(type), type, count, block.data());
    if (scales_) kernels.scale(block.data(), count, multiply_.data() + offset, add_.data() + offset);
    kernels.narrow(block.data(), type_, count, out + at * pixel_bytes(type_));
  }
}

}  // namespace lds
