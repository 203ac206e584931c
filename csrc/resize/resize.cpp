#include "resize/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "common/error.h"

namespace lds {
namespace {

// `message` is a function, so that the string is only built for an error.
template <class Message>
void check(bool ok, Message message) {
  if (!ok) throw Error(Reason::value, std::string("resize: ") + message());
}

std::string size_text(int width, int height) { return std::to_string(width) + "x" + std::to_string(height); }

void check_spec(const ResizeSpec& spec, const ImageView& out) {
  check(spec.in_width >= 1 && spec.in_height >= 1,
        [&] { return "the image is empty: " + size_text(spec.in_width, spec.in_height); });
  check(spec.out_width >= 1 && spec.out_height >= 1,
        [&] { return "the size must be at least 1x1, found " + size_text(spec.out_width, spec.out_height); });
  check(spec.channels >= 1 && spec.channels <= 4,
        [&] { return "expected 1 to 4 channels, found " + std::to_string(spec.channels); });
  const float* box = spec.box;
  check(box[0] >= 0 && box[1] >= 0 && box[2] <= static_cast<float>(spec.in_width) &&
            box[3] <= static_cast<float>(spec.in_height) && box[2] > box[0] && box[3] > box[1],
        [&] {
          return "the box (" + std::to_string(box[0]) + ", " + std::to_string(box[1]) + ", " + std::to_string(box[2]) +
                 ", " + std::to_string(box[3]) + ") is empty or not inside the image of " +
                 size_text(spec.in_width, spec.in_height);
        });
  const IntBox& crop = spec.crop;
  check(crop.x0 >= 0 && crop.y0 >= 0 && crop.x1 <= spec.out_width && crop.y1 <= spec.out_height && crop.width() >= 1 &&
            crop.height() >= 1,
        [&] { return "the crop is empty or not inside the output of " + size_text(spec.out_width, spec.out_height); });
  check(out.data && out.width == crop.width() && out.height == crop.height() && out.channels == spec.channels, [&] {
    return "the output must have the crop's size, " + size_text(crop.width(), crop.height()) + " with " +
           std::to_string(spec.channels) + " channels, found " + size_text(out.width, out.height) + " with " +
           std::to_string(out.channels);
  });
  check((out.pixel_stride == 1) || (out.pixel_stride == out.channels && out.channel_stride == 1),
        [] { return "the output must be interleaved or planar"; });
}

// The order of the passes matters for rounding. Since version 13, Pillow runs the vertical pass first if the height
// shrinks by more than twice as many pixels as the width; before, it always ran the horizontal pass first.
bool shrinks_mostly_in_height(const ResizeSpec& spec) {
  const int64_t shrunk = int64_t{spec.in_height} - spec.out_height;
  return spec.filter != Filter::nearest && shrunk > 0 && shrunk > (int64_t{spec.in_width} - spec.out_width) * 2;
}

bool whole_pixels(float low, float high, int size) {
  return low == std::floor(low) && high - low == static_cast<float>(size);
}

void prepare_pick(HorizontalPass& pass) {
  const AxisTable& table = pass.table;
  pass.pick.from.resize(static_cast<size_t>(table.outputs));
  std::transform(table.first.begin(), table.first.end(), pass.pick.from.begin(),
                 [&](int first) { return first < 0 ? ptrdiff_t{-1} : ptrdiff_t{first - table.begin} * pass.channels; });
  pass.pick.prepare();
}

}  // namespace

void StreamingResizer::set_passes() {
  AxisGeometry x{spec_.in_width, spec_.out_width, spec_.box[0],    spec_.box[2], spec_.crop.x0,
                 spec_.crop.x1,  spec_.filter,    spec_.antialias, false};
  AxisGeometry y{spec_.in_height, spec_.out_height, spec_.box[1],    spec_.box[3], spec_.crop.y0,
                 spec_.crop.y1,   spec_.filter,     spec_.antialias, false};
  // if both directions map whole pixels, Pillow only crops, for any filter
  x.copy = y.copy = whole_pixels(x.in0, x.in1, x.out_size) && whole_pixels(y.in0, y.in1, y.out_size);
  vertical_first_ = shrinks_mostly_in_height(spec_);
  const int channels = source_channel_stride_ != 0 || vertical_first_ ? 1 : spec_.channels;
  horizontal_ = &horizontal_cache_.find({x, channels}, [&](HorizontalPass& pass) {
    pass.channels = channels;
    pass.table.compute(x);
    if (pass.table.kind == AxisTable::Kind::weighted) kernels_.prepare(pass);
    if (pass.table.kind == AxisTable::Kind::nearest) prepare_pick(pass);
  });
  vertical_ = &vertical_cache_.find(y, [&](VerticalPass& pass) {
    pass.table.compute(y);
    if (pass.table.kind == AxisTable::Kind::weighted) kernels_.prepare_vertical(pass);
  });
}

void StreamingResizer::set_buffers() {
  const AxisTable& table = vertical_->table;
  ring_rows_ = 1;
  if (table.kind == AxisTable::Kind::weighted) ring_rows_ = table.taps;
  ring_width_ = vertical_first_ ? horizontal_->table.end - horizontal_->table.begin : spec_.crop.width();
  line_stride_ = padded(std::max(ring_width_, spec_.crop.width()));
  row_stride_ = line_stride_ * spec_.channels;
  const size_t bytes = static_cast<size_t>(ring_rows_) * row_stride_;
  if (ring_.size() < bytes) ring_.resize(bytes);
  if (line_.size() < static_cast<size_t>(row_stride_)) line_.resize(row_stride_);
  if (column_.size() < static_cast<size_t>(line_stride_)) column_.resize(line_stride_);
  window_.resize(table.taps);
}

void StreamingResizer::push(const uint8_t* row) {
  if (!active_ || next_row_ >= vertical_->table.end) {
    throw Error(Reason::internal, "resize: more rows were pushed than needed() has");
  }
  const AxisTable& table = vertical_->table;
  const int current = next_row_++;
  if (next_out_ >= table.outputs) return;
  // without antialiasing, and with the nearest filter, a row may not be in any window
  if (current >= table.first[next_out_]) fill_ring_row(row, ring_row(current));
  while (next_out_ < table.outputs && table.end_of[next_out_] <= next_row_) emit_row();
}

// Stores a source row in the ring, after the horizontal pass unless the vertical pass is first.
void StreamingResizer::fill_ring_row(const uint8_t* row, uint8_t* dst) {
  if (source_channel_stride_ != 0) {
    for (int c = 0; c < spec_.channels; ++c) {
      const uint8_t* source = row + c * source_channel_stride_;
      if (vertical_first_) {
        std::memcpy(dst + c * line_stride_, source, ring_width_);
      } else {
        horizontal_pass(source, dst + c * line_stride_);
      }
    }
  } else if (vertical_first_) {
    kernels_.deinterleave(row, ring_width_, spec_.channels, dst, line_stride_);
  } else {
    horizontal_pass(row, dst);
  }
}

void StreamingResizer::horizontal_pass(const uint8_t* row, uint8_t* dst) {
  const AxisTable& table = horizontal_->table;
  const int channels = horizontal_->channels;
  switch (table.kind) {
    case AxisTable::Kind::copy: kernels_.deinterleave(row, table.outputs, channels, dst, line_stride_); break;
    case AxisTable::Kind::nearest:
      for (int c = 0; c < channels; ++c) value_kernels_.pick(horizontal_->pick, row + c, dst + c * line_stride_);
      break;
    case AxisTable::Kind::weighted: kernels_.horizontal(*horizontal_, row, dst, line_stride_); break;
  }
}

// Runs the vertical pass for one channel of output row next_out_. The channels of a row follow each other.
void StreamingResizer::vertical_line(int channel, uint8_t* dst) {
  const AxisTable& table = vertical_->table;
  const int first = table.first[next_out_];
  if (table.kind != AxisTable::Kind::weighted) {
    if (first < 0) {
      std::memset(dst, 0, ring_width_);
    } else {
      std::memcpy(dst, ring_row(first) + channel * line_stride_, ring_width_);
    }
    return;
  }
  if (channel > 0) {
    for (const uint8_t*& row : window_) row += line_stride_;
  } else {
    const uint8_t* row = ring_row(first);
    const uint8_t* const end = ring_.data() + ring_rows_ * row_stride_;
    for (int j = 0; j < table.taps; ++j) {
      window_[j] = row;
      // rows past the window have weight 0, so any row will do
      if (first + j + 1 >= table.end_of[next_out_]) continue;
      row += row_stride_;
      if (row == end) row = ring_.data();
    }
  }
  kernels_.vertical(*vertical_, next_out_, window_.data(), dst, ring_width_);
}

void StreamingResizer::emit_row() {
  const bool planar = out_.pixel_stride == 1, direct = planar && !vertical_first_;
  uint8_t* dst = out_.row(next_out_);
  for (int c = 0; c < spec_.channels; ++c) {
    if (direct) {
      vertical_line(c, dst + c * out_.channel_stride);
    } else if (!vertical_first_) {
      vertical_line(c, line_.data() + c * line_stride_);
    } else {
      vertical_line(c, column_.data());
      horizontal_pass(column_.data(), line_.data() + c * line_stride_);
    }
  }
  if (planar && !direct) {
    for (int c = 0; c < spec_.channels; ++c) {
      std::memcpy(dst + c * out_.channel_stride, line_.data() + c * line_stride_, spec_.crop.width());
    }
  } else if (!planar) {
    const uint8_t* lines[4];
    for (int c = 0; c < spec_.channels; ++c) lines[c] = line_.data() + c * line_stride_;
    kernels_.interleave(lines, spec_.crop.width(), spec_.channels, dst);
  }
  ++next_out_;
}

void StreamingResizer::begin(const ResizeSpec& spec, const ImageView& out, ptrdiff_t source_channel_stride) {
  active_ = false;
  check_spec(spec, out);
  spec_ = spec;
  out_ = out;
  source_channel_stride_ = source_channel_stride;
  set_passes();
  set_buffers();
  next_row_ = vertical_->table.begin;
  next_out_ = 0;
  active_ = true;
}

IntBox StreamingResizer::needed() const noexcept {
  if (!active_) return {};
  return {horizontal_->table.begin, vertical_->table.begin, horizontal_->table.end, vertical_->table.end};
}

void StreamingResizer::resize(const ConstImageView& source, const ResizeSpec& spec, const ImageView& out) {
  check(source.data && source.width == spec.in_width && source.height == spec.in_height &&
            source.channels == spec.channels,
        [] { return "the size or the channels of the source differ from those of the spec"; });
  const bool interleaved =
      source.channels == 1 || (source.pixel_stride == source.channels && source.channel_stride == 1);
  check(source.pixel_stride == 1 || interleaved, [] { return "the source must be interleaved or planar"; });
  begin(spec, out, interleaved ? 0 : source.channel_stride);
  const IntBox box = needed();
  const uint8_t* corner = source.data + box.x0 * source.pixel_stride;
  for (int y = box.y0; y < box.y1; ++y) push(corner + y * source.row_stride);
}

}  // namespace lds
