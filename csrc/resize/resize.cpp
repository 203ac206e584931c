#include "resize/resize.h"

#include <algorithm>
#include <string>
#include <vector>

#include "common/error.h"
#include "resize/coefficients.h"

namespace lds {
namespace {

uint8_t clip8(int32_t sum) noexcept { return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255)); }

}  // namespace

struct StreamingResizer::State {
  ResizeSpec spec;
  ImageView out;
  Coefficients columns, rows;
  bool rows_first = false;
  IntBox needed;
  int next_in = 0, next_out = 0;
  size_t line_bytes = 0;        // of the buffer: needed.width() pixels if rows_first, else crop.width()
  std::vector<uint8_t> buffer;  // the needed rows as they came, or resized horizontally
  std::vector<uint8_t> line, last_line;

  size_t out_bytes() const { return static_cast<size_t>(spec.crop.width()) * static_cast<size_t>(spec.channels); }

  void resize_columns(const uint8_t* in, uint8_t* to) const {
    const int channels = spec.channels;
    for (int x = 0; x < spec.crop.width(); ++x) {
      const uint8_t* from = in + static_cast<ptrdiff_t>(columns.first[x] - needed.x0) * channels;
      const int32_t* weights = &columns.weights[static_cast<size_t>(x) * static_cast<size_t>(columns.taps)];
      for (int c = 0; c < channels; ++c) {
        int32_t sum = 1 << (kPrecisionBits - 1);
        for (int k = 0; k < columns.count[x]; ++k) sum += from[k * channels + c] * weights[k];
        *to++ = clip8(sum);
      }
    }
  }

  void resize_rows(int y, uint8_t* to) const {
    const uint8_t* from = buffer.data() + static_cast<size_t>(rows.first[y] - needed.y0) * line_bytes;
    const int32_t* weights = &rows.weights[static_cast<size_t>(y) * static_cast<size_t>(rows.taps)];
    for (size_t i = 0; i < line_bytes; ++i) {
      int32_t sum = 1 << (kPrecisionBits - 1);
      for (int k = 0; k < rows.count[y]; ++k) sum += from[k * line_bytes + i] * weights[k];
      to[i] = clip8(sum);
    }
  }

  void write_line(const uint8_t* from, int y) const {
    for (int x = 0; x < out.width; ++x) {
      uint8_t* to = out.row(y) + x * out.pixel_stride;
      for (int c = 0; c < spec.channels; ++c) to[c * out.channel_stride] = *from++;
    }
  }

  // Output row y, whose last source row has come.
  void finish_row(int y) {
    resize_rows(y, line.data());
    if (rows_first) resize_columns(line.data(), last_line.data());
    write_line(rows_first ? last_line.data() : line.data(), y);
  }
};

StreamingResizer::StreamingResizer() : state_(std::make_unique<State>()) {}
StreamingResizer::~StreamingResizer() = default;

void StreamingResizer::begin(const ResizeSpec& spec, const ImageView& out) {
  const IntBox& crop = spec.crop;
  const float* box = spec.box;
  if (spec.in_width < 1 || spec.in_height < 1 || spec.channels < 1 || crop.x0 < 0 || crop.y0 < 0 ||
      crop.x1 > spec.out_width || crop.y1 > spec.out_height || crop.width() < 1 || crop.height() < 1 ||
      !(box[0] >= 0 && box[1] >= 0 && box[0] < box[2] && box[1] < box[3]) ||
      box[2] > static_cast<float>(spec.in_width) || box[3] > static_cast<float>(spec.in_height)) {
    throw Error(Reason::value, "resize: the box must lie inside the image, and the crop inside the output");
  }
  if (out.width != crop.width() || out.height != crop.height() || out.channels != spec.channels) {
    throw Error(Reason::value, "resize: the output view must have the size of the crop");
  }
  State& s = *state_;
  s.spec = spec;
  s.out = out;
  s.columns =
      make_coefficients(spec.in_width, box[0], box[2], spec.out_width, crop.x0, crop.x1, spec.filter, spec.antialias);
  s.rows =
      make_coefficients(spec.in_height, box[1], box[3], spec.out_height, crop.y0, crop.y1, spec.filter, spec.antialias);
  const auto last = [](const Coefficients& t) {
    int end = 0;
    for (size_t i = 0; i < t.first.size(); ++i) end = std::max(end, t.first[i] + t.count[i]);
    return end;
  };
  s.needed = {s.columns.first.front(), s.rows.first.front(), last(s.columns), last(s.rows)};
  s.next_in = s.needed.y0;
  s.next_out = 0;
  // The order of the passes is Pillow's, since the pixels between them are rounded to 8 bits: rows go first where that
  // takes away more than twice as many rows as columns would go.
  s.rows_first = spec.out_height < spec.in_height &&
                 spec.in_height - spec.out_height > 2 * (int64_t{spec.in_width} - spec.out_width);
  const int width = s.rows_first ? s.needed.width() : crop.width();
  s.line_bytes = static_cast<size_t>(width) * static_cast<size_t>(spec.channels);
  s.buffer.resize(std::max(s.buffer.size(), s.line_bytes * static_cast<size_t>(s.needed.height())));
  s.line.resize(std::max(s.line.size(), s.line_bytes));
  s.last_line.resize(std::max(s.last_line.size(), s.out_bytes()));
}

IntBox StreamingResizer::needed() const noexcept { return state_->needed; }

void StreamingResizer::push(const uint8_t* row) {
  State& s = *state_;
  if (s.next_in >= s.needed.y1) throw Error(Reason::value, "resize: more rows than needed");
  uint8_t* to = s.buffer.data() + static_cast<size_t>(s.next_in - s.needed.y0) * s.line_bytes;
  if (s.rows_first) {
    std::copy(row, row + s.line_bytes, to);
  } else {
    s.resize_columns(row, to);
  }
  ++s.next_in;
  while (s.next_out < s.out.height && s.rows.first[s.next_out] + s.rows.count[s.next_out] <= s.next_in) {
    s.finish_row(s.next_out++);
  }
}

bool StreamingResizer::done() const noexcept { return state_->next_out == state_->out.height; }

}  // namespace lds
