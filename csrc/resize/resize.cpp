#include "resize/resize.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "common/error.h"
#include "resize/filter_table.h"
#include "resize/kernels.h"

namespace lds {
namespace {

void check(const ResizeSpec& spec, const ImageView& out) {
  const float width = static_cast<float>(spec.in_width);
  const float height = static_cast<float>(spec.in_height);
  const bool box_inside = spec.box[0] >= 0 && spec.box[1] >= 0 && spec.box[2] <= width && spec.box[3] <= height &&
                          spec.box[0] < spec.box[2] && spec.box[1] < spec.box[3];
  const IntBox& crop = spec.crop;
  const bool crop_inside = crop.x0 >= 0 && crop.y0 >= 0 && crop.x1 <= spec.out_width && crop.y1 <= spec.out_height &&
                           crop.width() > 0 && crop.height() > 0;
  if (spec.in_width < 1 || spec.in_height < 1 || spec.channels < 1 || spec.channels > 4 || !box_inside) {
    throw Error(Reason::value, "expected a box inside an image of 1 to 4 channels, found an image of " +
                                   std::to_string(spec.in_width) + "x" + std::to_string(spec.in_height) + "x" +
                                   std::to_string(spec.channels) + " and the box (" + std::to_string(spec.box[0]) +
                                   ", " + std::to_string(spec.box[1]) + ", " + std::to_string(spec.box[2]) + ", " +
                                   std::to_string(spec.box[3]) + ")");
  }
  if (!crop_inside || out.width != crop.width() || out.height != crop.height() || out.channels != spec.channels) {
    throw Error(Reason::value, "expected a crop inside the resized image of " + std::to_string(spec.out_width) + "x" +
                                   std::to_string(spec.out_height) + ", found " + std::to_string(crop.width()) + "x" +
                                   std::to_string(crop.height()));
  }
}

// Which pass rounds first decides pixels. Pillow's rule since version 13: the vertical one where the height shrinks
// by more than twice what the width does; before, always the horizontal one.
bool vertical_first(const ResizeSpec& spec) {
  const int shrunk = spec.in_height - spec.out_height;
  return spec.filter != Filter::nearest && shrunk > 0 && shrunk > (spec.in_width - spec.out_width) * 2;
}

}  // namespace

struct StreamingResizer::State {
  const ResizeKernels& kernels = resize_kernels();
  FilterTable columns, rows;
  ImageView out;
  int channels = 3;
  int pushed = 0, emitted = 0;  // source rows taken, output rows written
  int kept = 1;                 // rows in the ring
  int ring_pixels = 0;          // pixels of a row in the ring
  int64_t row_bytes = 0;        // distance of rows in the ring
  bool vertical_first = false;
  std::vector<uint8_t> ring, line, narrowed;
  std::vector<const uint8_t*> taps;

  uint8_t* ring_row(int source_row) { return ring.data() + source_row % kept * row_bytes; }

  // One source row -> one row as wide as the output.
  void narrow(const uint8_t* row, uint8_t* dst) {
    const int width = out.width;
    if (columns.axis.is_identity()) {
      std::memcpy(dst, row, static_cast<size_t>(width) * static_cast<size_t>(channels));
    } else if (columns.stride == 0) {
      for (int x = 0; x < width; ++x) {
        std::memcpy(dst + x * channels, row + columns.first[static_cast<size_t>(x)] * channels,
                    static_cast<size_t>(channels));
      }
    } else {
      kernels.horizontal(row, columns.source_end - columns.source_begin, channels, columns, dst);
    }
  }

  // Rows of the ring -> output row `emitted`.
  void emit() {
    const auto output = static_cast<size_t>(emitted);
    const int first = rows.first[output];
    const uint8_t* finished = ring_row(first);
    if (rows.stride != 0) {
      for (int tap = 0; tap < rows.taps[output]; ++tap) taps[static_cast<size_t>(tap)] = ring_row(first + tap);
      kernels.vertical(taps.data(), rows.taps[output], rows.weights.data() + output * static_cast<size_t>(rows.stride),
                       ring_pixels * channels, line.data());
      finished = line.data();
    }
    if (vertical_first) {
      narrow(finished, narrowed.data());
      finished = narrowed.data();
    }
    uint8_t* target = out.row(emitted);
    if (out.pixel_stride == channels && (channels == 1 || out.channel_stride == 1)) {
      std::memcpy(target, finished, static_cast<size_t>(out.width) * static_cast<size_t>(channels));
    } else {
      kernels.deinterleave(finished, out.width, channels, target, out.channel_stride);
    }
    ++emitted;
  }
};

StreamingResizer::StreamingResizer() : state_(std::make_unique<State>()) {}
StreamingResizer::~StreamingResizer() = default;

void StreamingResizer::begin(const ResizeSpec& spec, const ImageView& out) {
  check(spec, out);
  State& s = *state_;
  s.columns.prepare({spec.in_width, spec.box[0], spec.box[2], spec.out_width, spec.crop.x0, spec.crop.x1, spec.filter,
                     spec.antialias});
  s.rows.prepare({spec.in_height, spec.box[1], spec.box[3], spec.out_height, spec.crop.y0, spec.crop.y1, spec.filter,
                  spec.antialias});
  s.out = out;
  s.channels = spec.channels;
  s.pushed = 0;
  s.emitted = 0;
  s.kept = 1;
  for (const int taps : s.rows.taps) s.kept = std::max(s.kept, taps);
  s.vertical_first = vertical_first(spec);
  s.ring_pixels = s.vertical_first ? s.columns.source_end - s.columns.source_begin : out.width;
  s.row_bytes = (int64_t{s.ring_pixels} * spec.channels + 2 * kRowSlack - 1) / kRowSlack * kRowSlack;
  s.ring.resize(static_cast<size_t>(s.row_bytes * s.kept + kRowSlack));
  s.line.resize(static_cast<size_t>(s.row_bytes + kRowSlack));
  s.narrowed.resize(static_cast<size_t>(int64_t{out.width} * spec.channels + kRowSlack));
  s.taps.resize(static_cast<size_t>(s.kept));
}

IntBox StreamingResizer::needed() const noexcept {
  const State& s = *state_;
  return {s.columns.source_begin, s.rows.source_begin, s.columns.source_end, s.rows.source_end};
}

void StreamingResizer::push(const uint8_t* row) {
  State& s = *state_;
  if (s.vertical_first) {
    std::memcpy(s.ring_row(s.pushed), row, static_cast<size_t>(s.ring_pixels) * static_cast<size_t>(s.channels));
  } else {
    s.narrow(row, s.ring_row(s.pushed));
  }
  ++s.pushed;
  while (!done()) {
    const auto next = static_cast<size_t>(s.emitted);
    if (s.rows.first[next] + s.rows.taps[next] > s.pushed) return;
    s.emit();
  }
}

bool StreamingResizer::done() const noexcept { return state_->emitted == state_->out.height; }

void resize_image(const ConstImageView& source, const ResizeSpec& spec, const ImageView& out,
                  StreamingResizer& resizer) {
  const bool interleaved = source.pixel_stride == source.channels;
  const int planes = interleaved ? 1 : source.channels;
  ResizeSpec one = spec;
  if (!interleaved) one.channels = 1;
  for (int plane = 0; plane < planes; ++plane) {
    ImageView target = out;
    if (!interleaved) {
      if (out.pixel_stride != 1) throw Error(Reason::value, "a planar image is resized into a planar one");
      target.data += plane * out.channel_stride;
      target.channels = 1;
    }
    resizer.begin(one, target);
    const IntBox needed = resizer.needed();
    const uint8_t* corner = source.data + plane * source.channel_stride + needed.x0 * source.pixel_stride;
    for (int y = needed.y0; y < needed.y1; ++y) resizer.push(corner + y * source.row_stride);
  }
}

}  // namespace lds
