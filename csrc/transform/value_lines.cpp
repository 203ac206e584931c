#include "transform/value_lines.h"

#include <algorithm>
#include <cstring>

namespace lds {
namespace {

template <class Word>
void copy_word(const uint8_t* from, uint8_t* to) noexcept {
  std::memcpy(to, from, sizeof(Word));
}

// The pixel that a nearest-neighbour table selects. Rounding may carry its last ones past the image.
int nearest(const AxisTable& table, int i) noexcept {
  const int source = table.first[i];
  return source < 0 ? table.geometry.in_size - 1 : source;
}

}  // namespace

void ValueLines::set_image(const ConstImageView& image, int width, const Format& format) {
  image_ = image;
  format_ = format;
  width_ = width;
  const bool planar_source = image.pixel_stride == format.value_bytes;  // also of one channel
  format_.planar = format.planar || image.channels == 1;
  same_layout_ = planar_source == format_.planar;
  padding_is_filled_ = contiguous_ = false;
}

void ValueLines::begin(const ConstImageView& image, const IntBox& box, const Format& format) {
  set_image(image, box.width(), format);
  rows_ = nullptr;
  box_ = box;
  const int first = std::clamp(-box.x0, 0, width_);
  const int end = std::clamp(image.width - box.x0, first, width_);
  step_ = format.flip ? -1 : 1;
  inside_begin_ = format.flip ? width_ - end : first;
  inside_end_ = format.flip ? width_ - first : end;
  source_ = format.flip ? box.x0 + end - 1 : box.x0 + first;
  contiguous_ = same_layout_ && !format.flip && box.x0 == 0 && box.x1 == image.width && box.y0 >= 0 &&
                box.y1 <= image.height && image.row_stride == ptrdiff_t{image.width} * image.pixel_stride;
}

void ValueLines::begin(const ConstImageView& image, const AxisTable& columns, const AxisTable& rows,
                       const Format& format) {
  set_image(image, columns.outputs, format);
  rows_ = &rows;
  picked_row_ = -1;
  columns_.value_bytes = format.value_bytes;
  columns_.from.clear();
  const int channels = format_.planar ? 1 : image.channels;
  for (int x = 0; x < width_; ++x) {
    const ptrdiff_t pixel = nearest(columns, format.flip ? width_ - 1 - x : x) * image.pixel_stride;
    for (int c = 0; c < channels; ++c) columns_.from.push_back(pixel + c * image.channel_stride);
  }
  columns_.prepare();
}

// The lines of an image that becomes larger repeat.
const uint8_t* ValueLines::picked_line(int y, int channel) {
  const int row = nearest(*rows_, y);
  if (row == picked_row_ && channel == picked_channel_) return line_.data();
  line_.resize(columns_.from.size() * static_cast<size_t>(format_.value_bytes) + PickTable::kPad);
  kernels_.pick(columns_, image_.row(row) + channel * image_.channel_stride, line_.data());
  picked_row_ = row;
  picked_channel_ = channel;
  return line_.data();
}

const uint8_t* ValueLines::line(int y, int channel) {
  if (rows_ != nullptr) return picked_line(y, channel);
  const int row = box_.y0 + y;
  if (row < 0 || row >= image_.height) return padding_line();
  const int channels = format_.planar ? 1 : image_.channels;
  const uint8_t* const from = image_.row(row);
  if (inside_end_ - inside_begin_ == width_ && same_layout_ && step_ == 1) {
    return from + source_ * image_.pixel_stride + channel * image_.channel_stride;
  }
  line_.resize(static_cast<size_t>(int64_t{width_} * channels * format_.value_bytes));
  switch (format_.value_bytes) {
    case 1: copy_line<uint8_t>(from, channel, channels, line_.data()); break;
    case 2: copy_line<uint16_t>(from, channel, channels, line_.data()); break;
    case 4: copy_line<uint32_t>(from, channel, channels, line_.data()); break;
    default: copy_line<uint64_t>(from, channel, channels, line_.data()); break;
  }
  return line_.data();
}

// Copies channels [channel, channel + channels) of a row of the source, interleaved.
template <class Word>
void ValueLines::copy_line(const uint8_t* row, int channel, int channels, uint8_t* out) const {
  constexpr auto kBytes = static_cast<ptrdiff_t>(sizeof(Word));
  const ptrdiff_t out_stride = channels * kBytes, stride = image_.pixel_stride;
  fill_padding<Word>(0, inside_begin_, channels, out);
  fill_padding<Word>(inside_end_, width_, channels, out);
  const int n = inside_end_ - inside_begin_;
  uint8_t* const to = out + inside_begin_ * out_stride;
  if (n > 0 && same_layout_ && step_ == 1) {
    std::memcpy(to, row + source_ * stride + channel * image_.channel_stride, static_cast<size_t>(n * out_stride));
    return;
  }
  for (int c = 0; c < channels; ++c) {
    const uint8_t* const from = row + (channel + c) * image_.channel_stride;
    uint8_t* const target = to + c * kBytes;
    if (n > 0 && step_ == -1 && stride == kBytes && out_stride == kBytes) {
      kernels_.reverse(from + (source_ - n + 1) * stride, n, kBytes, target);
    } else {
      const uint8_t* const first = from + source_ * stride;
      for (int x = 0; x < n; ++x) copy_word<Word>(first + ptrdiff_t{x} * step_ * stride, target + x * out_stride);
    }
  }
}

template <class Word>
void ValueLines::fill_padding(int from, int to, int channels, uint8_t* out) const {
  constexpr auto kBytes = static_cast<ptrdiff_t>(sizeof(Word));
  const auto* const padding = reinterpret_cast<const uint8_t*>(&format_.padding);
  for (ptrdiff_t i = ptrdiff_t{from} * channels; i < ptrdiff_t{to} * channels; ++i) {
    copy_word<Word>(padding, out + i * kBytes);
  }
}

const uint8_t* ValueLines::padding_line() {
  const int channels = format_.planar ? 1 : image_.channels;
  if (!padding_is_filled_) {
    padding_line_.resize(static_cast<size_t>(int64_t{width_} * channels * format_.value_bytes));
    switch (format_.value_bytes) {
      case 1: fill_padding<uint8_t>(0, width_, channels, padding_line_.data()); break;
      case 2: fill_padding<uint16_t>(0, width_, channels, padding_line_.data()); break;
      case 4: fill_padding<uint32_t>(0, width_, channels, padding_line_.data()); break;
      default: fill_padding<uint64_t>(0, width_, channels, padding_line_.data()); break;
    }
    padding_is_filled_ = true;
  }
  return padding_line_.data();
}

}  // namespace lds
