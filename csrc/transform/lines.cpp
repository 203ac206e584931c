#include "transform/lines.h"

#include <algorithm>
#include <cstring>

#include "convert/convert.h"

namespace lds {

void Lines::begin(const ConstImageView& image, const Crop& crop, bool flip, bool planar_out) {
  image_ = image;
  crop_ = crop;
  flip_ = flip;
  planar_source_ = image.pixel_stride == 1;
  planar_out_ = planar_out || image.channels == 1;
  loaded_ = -1;
  const bool whole_lines = crop.x == 0 && crop.width == image.width && crop.y >= 0 &&
                           crop.y + crop.height <= image.height &&
                           image.row_stride == ptrdiff_t{image.width} * image.pixel_stride;
  contiguous_ = whole_lines && !flip && planar_source_ == planar_out_;
}

// The crop's part of a source line, with zeros where it reaches outside, mirrored when asked.
const uint8_t* Lines::cut(int y, int channel, int pixel_bytes, std::vector<uint8_t>& buffer) {
  const int row = crop_.y + y;
  const int first = std::max(crop_.x, 0);
  const int last = std::min(crop_.x + crop_.width, image_.width);
  const auto bytes = static_cast<size_t>(crop_.width) * static_cast<size_t>(pixel_bytes);
  const bool inside = row >= 0 && row < image_.height;
  const uint8_t* source =
      inside ? image_.row(row) + channel * image_.channel_stride + ptrdiff_t{first} * pixel_bytes : nullptr;
  if (!inside || last - first < crop_.width) {
    buffer.assign(bytes, 0);
    if (inside && first < last) {
      std::memcpy(buffer.data() + ptrdiff_t{first - crop_.x} * pixel_bytes, source,
                  static_cast<size_t>(last - first) * static_cast<size_t>(pixel_bytes));
    }
    source = buffer.data();
  }
  if (!flip_) return source;
  flipped_.resize(bytes);
  mirror(source, crop_.width, pixel_bytes, flipped_.data());
  buffer.swap(flipped_);
  return buffer.data();
}

void Lines::change_layout(int y) {
  const int channels = image_.channels;
  changed_.resize(static_cast<size_t>(crop_.width) * static_cast<size_t>(channels));
  if (planar_source_) {
    for (int c = 0; c < channels; ++c) planes_[c] = cut(y, c, 1, cut_[c]);
    interleave(planes_, crop_.width, channels, changed_.data());
  } else {
    uint8_t* planes[4] = {};
    for (int c = 0; c < channels; ++c) planes_[c] = planes[c] = changed_.data() + ptrdiff_t{c} * crop_.width;
    deinterleave(cut(y, 0, channels, cut_[0]), crop_.width, channels, planes);
  }
  loaded_ = y;
}

const uint8_t* Lines::line(int y, int channel) {
  if (planar_source_ == planar_out_) {
    return cut(y, channel, planar_out_ ? 1 : image_.channels, cut_[0]);
  }
  if (loaded_ != y) change_layout(y);
  return planar_out_ ? planes_[channel] : changed_.data();
}

}  // namespace lds
