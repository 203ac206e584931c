#include "resize/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "common/error.h"
#include "resize/kernels.h"

namespace lds {
namespace {

constexpr int kCachedTables = 8;  // a data set has landscapes and portraits of a few usual sizes

// `message` is a function: words cost allocations, which a good image must not.
template <class Message>
void check(bool good, Message message) {
  if (!good) throw Error(Reason::value, std::string("resize: ") + message());
}

std::string size_words(int width, int height) { return std::to_string(width) + "x" + std::to_string(height); }

void check_spec(const ResizeSpec& spec, const ImageView& out) {
  check(spec.in_width >= 1 && spec.in_height >= 1,
        [&] { return "the image is empty: " + size_words(spec.in_width, spec.in_height); });
  check(spec.out_width >= 1 && spec.out_height >= 1,
        [&] { return "the size must be at least 1x1, found " + size_words(spec.out_width, spec.out_height); });
  check(spec.channels >= 1 && spec.channels <= 4,
        [&] { return "1 to 4 channels, found " + std::to_string(spec.channels); });
  const float* box = spec.box;
  check(box[0] >= 0 && box[1] >= 0 && box[2] <= static_cast<float>(spec.in_width) &&
            box[3] <= static_cast<float>(spec.in_height) && box[2] > box[0] && box[3] > box[1],
        [&] {
          return "the box (" + std::to_string(box[0]) + ", " + std::to_string(box[1]) + ", " + std::to_string(box[2]) +
                 ", " + std::to_string(box[3]) + ") is empty or not inside the image of " +
                 size_words(spec.in_width, spec.in_height);
        });
  const IntBox& crop = spec.crop;
  check(crop.x0 >= 0 && crop.y0 >= 0 && crop.x1 <= spec.out_width && crop.y1 <= spec.out_height && crop.width() >= 1 &&
            crop.height() >= 1,
        [&] { return "the crop is empty or not inside the output of " + size_words(spec.out_width, spec.out_height); });
  check(out.data && out.width == crop.width() && out.height == crop.height() && out.channels == spec.channels, [&] {
    return "the output must be the crop's " + size_words(crop.width(), crop.height()) + " with " +
           std::to_string(spec.channels) + " channels, found " + size_words(out.width, out.height) + " with " +
           std::to_string(out.channels);
  });
  check((out.pixel_stride == 1) || (out.pixel_stride == out.channels && out.channel_stride == 1),
        [] { return "the output must be interleaved or planar"; });
}

// Which pass rounds first decides pixels. Pillow's rule since version 13: the vertical one where the height shrinks
// by more than twice what the width does; before, always the horizontal one.
bool shrinks_mostly_in_height(const ResizeSpec& spec) {
  const int64_t shrunk = int64_t{spec.in_height} - spec.out_height;
  return spec.filter != Filter::nearest && shrunk > 0 && shrunk > (int64_t{spec.in_width} - spec.out_width) * 2;
}

bool whole_pixels(float low, float high, int size) {
  return low == std::floor(low) && high - low == static_cast<float>(size);
}

// The few most recent passes. The one looked up last is never the next to be replaced.
template <class Pass>
class PassCache {
 public:
  template <class Matches, class Fill>
  Pass& find(Matches matches, Fill fill) {
    for (int i = 0; i < used_; ++i) {
      if (matches(passes_[i])) {
        recent_ = i;
        return passes_[i];
      }
    }
    const int slot = used_ < kCachedTables ? used_++ : (recent_ + 1) % kCachedTables;
    recent_ = slot;
    fill(passes_[slot]);
    return passes_[slot];
  }

 private:
  Pass passes_[kCachedTables];
  int used_ = 0, recent_ = 0;
};

}  // namespace

struct StreamingResizer::State {
  const Kernels* kernels = &chosen_kernels();
  ResizeSpec spec;
  ImageView out;
  bool active = false;
  HorizontalPass* horizontal = nullptr;
  VerticalPass* vertical = nullptr;
  PassCache<HorizontalPass> horizontal_cache;
  PassCache<VerticalPass> vertical_cache;

  ptrdiff_t source_channel_stride = 0;  // of planar source rows; 0: interleaved
  bool vertical_first = false;          // then the ring holds source rows
  int next_row = 0;                     // in source rows
  int next_out = 0;
  int ring_rows = 0, ring_width = 0;
  ptrdiff_t line_stride = 0, row_stride = 0;  // ring row: `channels` lines
  std::vector<uint8_t> ring;
  std::vector<uint8_t> line;    // one output row, before interleaving
  std::vector<uint8_t> column;  // one channel between the passes, when the vertical one is first
  std::vector<const uint8_t*> window;

  uint8_t* ring_row(int row) { return ring.data() + (row % ring_rows) * row_stride; }
  void begin(const ResizeSpec& wanted, const ImageView& target, ptrdiff_t source_stride);
  void set_passes();
  void set_buffers();
  void push(const uint8_t* row);
  void ring_row_from(const uint8_t* row, uint8_t* dst);
  void horizontal_pass(const uint8_t* row, uint8_t* dst);
  void vertical_line(int channel, uint8_t* dst);
  void emit();
};

void StreamingResizer::State::set_passes() {
  AxisGeometry x{spec.in_width, spec.out_width, spec.box[0],    spec.box[2], spec.crop.x0,
                 spec.crop.x1,  spec.filter,    spec.antialias, false};
  AxisGeometry y{spec.in_height, spec.out_height, spec.box[1],    spec.box[3], spec.crop.y0,
                 spec.crop.y1,   spec.filter,     spec.antialias, false};
  // where both directions are whole pixels, Pillow crops, whatever the filter
  x.copy = y.copy = whole_pixels(x.in0, x.in1, x.out_size) && whole_pixels(y.in0, y.in1, y.out_size);
  vertical_first = shrinks_mostly_in_height(spec);
  const int channels = source_channel_stride != 0 || vertical_first ? 1 : spec.channels;
  horizontal = &horizontal_cache.find(
      [&](const HorizontalPass& pass) { return pass.channels == channels && pass.table.geometry == x; },
      [&](HorizontalPass& pass) {
        pass.channels = channels;
        pass.table.compute(x);
        if (pass.table.kind == AxisTable::Kind::weighted) kernels->prepare(pass);
      });
  vertical = &vertical_cache.find([&](const VerticalPass& pass) { return pass.table.geometry == y; },
                                  [&](VerticalPass& pass) {
                                    pass.table.compute(y);
                                    if (pass.table.kind == AxisTable::Kind::weighted) {
                                      pass.pairs = (pass.table.taps + 1) / 2;
                                      split_weights(pass.table, pass.pairs * 2, pass.high, pass.low);
                                    }
                                  });
}

void StreamingResizer::State::set_buffers() {
  const AxisTable& table = vertical->table;
  ring_rows = 1;
  if (table.kind == AxisTable::Kind::weighted) ring_rows = table.taps;
  ring_width = vertical_first ? horizontal->table.end - horizontal->table.begin : spec.crop.width();
  line_stride = padded(std::max(ring_width, spec.crop.width()));
  row_stride = line_stride * spec.channels;
  const size_t bytes = static_cast<size_t>(ring_rows) * row_stride;
  if (ring.size() < bytes) ring.resize(bytes);
  if (line.size() < static_cast<size_t>(row_stride)) line.resize(row_stride);
  if (column.size() < static_cast<size_t>(line_stride)) column.resize(line_stride);
  window.resize(table.taps);
}

void StreamingResizer::State::push(const uint8_t* row) {
  if (!active || next_row >= vertical->table.end) {
    throw Error(Reason::internal, "resize: a row more than needed() was pushed");
  }
  const AxisTable& table = vertical->table;
  const int current = next_row++;
  if (next_out >= table.outputs) return;
  // without antialiasing, and with nearest, rows may fall between the windows
  if (current >= table.first[next_out]) ring_row_from(row, ring_row(current));
  while (next_out < table.outputs && table.end_of[next_out] <= next_row) emit();
}

// A source row as it goes into the ring: resampled across, unless the vertical pass is first.
void StreamingResizer::State::ring_row_from(const uint8_t* row, uint8_t* dst) {
  if (source_channel_stride != 0) {
    for (int c = 0; c < spec.channels; ++c) {
      const uint8_t* source = row + c * source_channel_stride;
      if (vertical_first) {
        std::memcpy(dst + c * line_stride, source, ring_width);
      } else {
        horizontal_pass(source, dst + c * line_stride);
      }
    }
  } else if (vertical_first) {
    kernels->deinterleave(row, ring_width, spec.channels, dst, line_stride);
  } else {
    horizontal_pass(row, dst);
  }
}

void StreamingResizer::State::horizontal_pass(const uint8_t* row, uint8_t* dst) {
  const AxisTable& table = horizontal->table;
  const int channels = horizontal->channels;
  switch (table.kind) {
    case AxisTable::Kind::copy: kernels->deinterleave(row, table.outputs, channels, dst, line_stride); break;
    case AxisTable::Kind::nearest:
      for (int i = 0; i < table.outputs; ++i) {
        const uint8_t* pixel = row + ptrdiff_t{std::max(table.first[i] - table.begin, 0)} * channels;
        for (int c = 0; c < channels; ++c) dst[c * line_stride + i] = table.first[i] < 0 ? 0 : pixel[c];
      }
      break;
    case AxisTable::Kind::weighted: kernels->horizontal(*horizontal, row, dst, line_stride); break;
  }
}

// One channel of row next_out after the vertical pass.
void StreamingResizer::State::vertical_line(int channel, uint8_t* dst) {
  const AxisTable& table = vertical->table;
  const int first = table.first[next_out];
  if (table.kind != AxisTable::Kind::weighted) {
    if (first < 0) {
      std::memset(dst, 0, ring_width);
    } else {
      std::memcpy(dst, ring_row(first) + channel * line_stride, ring_width);
    }
    return;
  }
  for (int j = 0; j < table.taps; ++j) {  // rows past the window have weight 0: any will do
    window[j] = ring_row(std::min(first + j, table.end_of[next_out] - 1)) + channel * line_stride;
  }
  kernels->vertical(*vertical, next_out, window.data(), dst, ring_width);
}

void StreamingResizer::State::emit() {
  const bool planar = out.pixel_stride == 1, direct = planar && !vertical_first;
  uint8_t* dst = out.row(next_out);
  for (int c = 0; c < spec.channels; ++c) {
    if (direct) {
      vertical_line(c, dst + c * out.channel_stride);
    } else if (!vertical_first) {
      vertical_line(c, line.data() + c * line_stride);
    } else {
      vertical_line(c, column.data());
      horizontal_pass(column.data(), line.data() + c * line_stride);
    }
  }
  if (planar && !direct) {
    for (int c = 0; c < spec.channels; ++c) {
      std::memcpy(dst + c * out.channel_stride, line.data() + c * line_stride, spec.crop.width());
    }
  } else if (!planar) {
    kernels->interleave(line.data(), line_stride, spec.crop.width(), spec.channels, dst);
  }
  ++next_out;
}

void StreamingResizer::State::begin(const ResizeSpec& wanted, const ImageView& target, ptrdiff_t source_stride) {
  active = false;
  check_spec(wanted, target);
  spec = wanted;
  out = target;
  source_channel_stride = source_stride;
  set_passes();
  set_buffers();
  next_row = vertical->table.begin;
  next_out = 0;
  active = true;
}

StreamingResizer::StreamingResizer() : state_(std::make_unique<State>()) {}
StreamingResizer::~StreamingResizer() = default;

void StreamingResizer::begin(const ResizeSpec& spec, const ImageView& out) { state_->begin(spec, out, 0); }

IntBox StreamingResizer::needed() const noexcept {
  const State& s = *state_;
  if (!s.active) return {};
  return {s.horizontal->table.begin, s.vertical->table.begin, s.horizontal->table.end, s.vertical->table.end};
}

void StreamingResizer::push(const uint8_t* row) { state_->push(row); }

bool StreamingResizer::done() const noexcept {
  return state_->active && state_->next_out == state_->vertical->table.outputs;
}

void resize_image(const ConstImageView& source, const ResizeSpec& spec, const ImageView& out,
                  StreamingResizer& resizer) {
  check(source.data && source.width == spec.in_width && source.height == spec.in_height &&
            source.channels == spec.channels,
        [] { return "the source is not of the size and channels that the spec says"; });
  const bool interleaved =
      source.channels == 1 || (source.pixel_stride == source.channels && source.channel_stride == 1);
  check(source.pixel_stride == 1 || interleaved, [] { return "the source must be interleaved or planar"; });
  resizer.state_->begin(spec, out, interleaved ? 0 : source.channel_stride);
  const IntBox box = resizer.needed();
  const uint8_t* corner = source.data + box.x0 * source.pixel_stride;
  for (int y = box.y0; y < box.y1; ++y) resizer.state_->push(corner + y * source.row_stride);
}

}  // namespace lds
