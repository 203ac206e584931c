#include "transform/crop_reader.h"

#include <algorithm>
#include <cstring>

#include "convert/convert.h"
#include "resize/kernels.h"

namespace lds {

void CropReader::begin(const ConstImageView& image, const IntBox& box, bool flip, bool planar_out, uint8_t padding) {
  image_ = image;
  box_ = box;
  flip_ = flip;
  padding_ = padding;
  planar_source_ = image.pixel_stride == 1;
  planar_out_ = planar_out || image.channels == 1;
  converted_line_ = -1;
  const bool whole_lines = box.x0 == 0 && box.x1 == image.width && box.y0 >= 0 && box.y1 <= image.height &&
                           image.row_stride == ptrdiff_t{image.width} * image.pixel_stride;
  contiguous_ = whole_lines && !flip && planar_source_ == planar_out_;
}

// Line y of the box in the layout of the source: padding outside of the image, mirrored if flip_ is set.
const uint8_t* CropReader::cut(int y, int channel, int pixel_bytes, std::vector<uint8_t>& buffer) {
  const int row = box_.y0 + y;
  const int first = std::max(box_.x0, 0);
  const int last = std::min(box_.x1, image_.width);
  const auto bytes = static_cast<size_t>(box_.width()) * static_cast<size_t>(pixel_bytes);
  const bool inside = row >= 0 && row < image_.height;
  const uint8_t* source =
      inside ? image_.row(row) + channel * image_.channel_stride + ptrdiff_t{first} * pixel_bytes : nullptr;
  if (!inside || last - first < box_.width()) {
    buffer.assign(bytes, padding_);
    if (inside && first < last) {
      std::memcpy(buffer.data() + ptrdiff_t{first - box_.x0} * pixel_bytes, source,
                  static_cast<size_t>(last - first) * static_cast<size_t>(pixel_bytes));
    }
    source = buffer.data();
  }
  if (!flip_) return source;
  flipped_.resize(bytes);
  mirror(source, box_.width(), pixel_bytes, flipped_.data());
  buffer.swap(flipped_);
  return buffer.data();
}

void CropReader::convert_layout(int y) {
  const int channels = image_.channels;
  if (planar_source_) {
    converted_.resize(static_cast<size_t>(box_.width()) * static_cast<size_t>(channels));
    for (int c = 0; c < channels; ++c) planes_[c] = cut(y, c, 1, cut_[c]);
    interleave(planes_, box_.width(), channels, converted_.data());
  } else {
    const ptrdiff_t stride = padded(box_.width());
    converted_.resize(static_cast<size_t>(stride) * static_cast<size_t>(channels));
    resize_kernels().deinterleave(cut(y, 0, channels, cut_[0]), box_.width(), channels, converted_.data(), stride);
    for (int c = 0; c < channels; ++c) planes_[c] = converted_.data() + c * stride;
  }
  converted_line_ = y;
}

const uint8_t* CropReader::line(int y, int channel) {
  if (planar_source_ == planar_out_) {
    return cut(y, channel, planar_out_ ? 1 : image_.channels, cut_[0]);
  }
  if (converted_line_ != y) convert_layout(y);
  return planar_out_ ? planes_[channel] : converted_.data();
}

void copy_pixels(const ConstImageView& image, bool planar, CropReader& reader, uint8_t* out) {
  const int planes = planar ? image.channels : 1;
  const int64_t line_bytes = int64_t{image.width} * (planar ? 1 : image.channels);
  reader.begin(image, {0, 0, image.width, image.height}, false, planar);
  for (int y = 0; y < image.height; ++y) {
    for (int c = 0; c < planes; ++c) {
      std::memcpy(out + (int64_t{c} * image.height + y) * line_bytes, reader.line(y, c),
                  static_cast<size_t>(line_bytes));
    }
  }
}

}  // namespace lds
