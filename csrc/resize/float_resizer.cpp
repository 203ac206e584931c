#include "resize/float_resizer.h"

#include <algorithm>
#include <cmath>

#include "convert/image_layout.h"
#include "resize/filter_functions.h"

namespace lds {
namespace {

constexpr int kLines = 8;  // rows of a plane that share a horizontal pass: their sums do not wait for each other

double support_of(Filter filter) {
  switch (filter) {
    case Filter::box: return 0.5;
    case Filter::bicubic: return 2.0;
    case Filter::lanczos: return 3.0;
    default: return 1.0;
  }
}

double value_of(Filter filter, double x) {
  switch (filter) {
    case Filter::box: return box_filter(x);
    case Filter::bicubic: return bicubic_filter(x);
    case Filter::lanczos: return lanczos_filter(x);
    default: return bilinear_filter(x);
  }
}

AxisGeometry axis_of(int in_size, int out_size, int crop0, int crop1, Filter filter) {
  return {in_size, out_size, 0, static_cast<float>(in_size), crop0, crop1, filter, true, false};
}

}  // namespace

void FloatAxis::compute(const AxisGeometry& axis) {
  const int outputs = axis.crop1 - axis.crop0;
  const bool identity = axis.in_size == axis.out_size;  // exactly, also where the filter's zeros are inexact
  const double scale = static_cast<double>(axis.in_size) / axis.out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = identity ? 0.5 : support_of(axis.filter) * filter_scale;
  taps = static_cast<int>(std::ceil(support)) * 2 + 1;
  first.resize(static_cast<size_t>(outputs));
  count.resize(static_cast<size_t>(outputs));
  weights.assign(static_cast<size_t>(outputs) * taps, 0.0F);
  window_.resize(static_cast<size_t>(taps));
  begin = axis.in_size;
  end = 0;
  for (int i = 0; i < outputs; ++i) {
    const double center = (axis.crop0 + i + 0.5) * scale;
    int low = std::max(static_cast<int>(std::floor(center - support + 0.5)), 0);
    int high = std::min(static_cast<int>(std::floor(center + support + 0.5)), axis.in_size);
    double sum = 0.0;
    for (int j = low; j < high; ++j) {
      sum += window_[j - low] = identity ? 1.0 : value_of(axis.filter, (j - center + 0.5) / filter_scale);
    }
    // zero weights are left out, so that NaN and infinity stay where they are seen
    const int start = low;
    while (high - low > 1 && window_[high - 1 - start] == 0.0) --high;
    while (high - low > 1 && window_[low - start] == 0.0) ++low;
    first[i] = low;
    count[i] = high - low;
    float* const weight = &weights[static_cast<size_t>(i) * taps];
    for (int j = low; j < high; ++j) weight[j - low] = static_cast<float>(window_[j - start] / sum);
    begin = std::min(begin, low);
    end = std::max(end, high);
  }
}

void FloatResizer::resize(const ConstImageView& source, PixelType type, const ResizeSpec& spec, float* out) {
  const AxisGeometry x = axis_of(spec.in_width, spec.out_width, spec.crop.x0, spec.crop.x1, spec.filter);
  const AxisGeometry y = axis_of(spec.in_height, spec.out_height, spec.crop.y0, spec.crop.y1, spec.filter);
  columns_ = &columns_cache_.find(x, [&](FloatAxis& axis) { axis.compute(x); });
  rows_ = &rows_cache_.find(y, [&](FloatAxis& axis) { axis.compute(y); });
  const bool planar = source.pixel_stride == pixel_bytes(type);
  const int per_pixel = planar ? 1 : spec.channels;
  const int lines = planar ? kLines : 1;
  const int64_t values = int64_t{columns_->end - columns_->begin} * per_pixel;
  line_stride_ = values;
  lines_.resize(static_cast<size_t>(values) * lines);
  const ptrdiff_t out_stride = ptrdiff_t{spec.crop.width()} * per_pixel;
  const int height = spec.crop.height();
  for (int c = 0; c < (planar ? spec.channels : 1); ++c) {
    for (int row = 0; row < height; row += lines) {
      const int n = std::min(lines, height - row);
      for (int i = 0; i < n; ++i) sum_rows(source, type, c, row + i, values, lines_.data() + i * line_stride_);
      float* const to = out + (int64_t{c} * height + row) * out_stride;
      planar ? sum_pixels_of_planes(n, to, out_stride) : sum_pixels(spec.channels, to);
    }
  }
}

// The vertical pass: one row of the result, before the horizontal pass. In blocks, which stay in the nearest cache.
void FloatResizer::sum_rows(const ConstImageView& source, PixelType type, int channel, int y, int64_t values,
                            float* out) {
  constexpr int64_t kBlock = 1024;
  const uint8_t* const from =
      source.row(rows_->first[y]) + channel * source.channel_stride + columns_->begin * source.pixel_stride;
  const float* const weights = &rows_->weights[static_cast<size_t>(y) * rows_->taps];
  std::fill(out, out + values, 0.0F);
  for (int64_t at = 0; at < values; at += kBlock) {
    const int64_t n = std::min(kBlock, values - at);
    const uint8_t* row = from + at * pixel_bytes(type);
    for (int j = 0; j < rows_->count[y]; ++j, row += source.row_stride) {
      kernels_.add_weighted(row, type, n, weights[j], out + at);
    }
  }
}

// The horizontal pass over some rows of a plane.
void FloatResizer::sum_pixels_of_planes(int lines, float* out, ptrdiff_t out_stride) const {
  const auto width = static_cast<int>(columns_->first.size());
  for (int x = 0; x < width; ++x) {
    const float* const weights = &columns_->weights[static_cast<size_t>(x) * columns_->taps];
    const float* const from = lines_.data() + (columns_->first[x] - columns_->begin);
    float sums[kLines] = {};
    for (int j = 0; j < columns_->count[x]; ++j) {  // all lines: those after the last are old ones, and not written
      for (int i = 0; i < kLines; ++i) sums[i] += from[i * line_stride_ + j] * weights[j];
    }
    for (int i = 0; i < lines; ++i) out[i * out_stride + x] = sums[i];
  }
}

// The horizontal pass over a row of interleaved pixels.
void FloatResizer::sum_pixels(int channels, float* out) const {
  const auto width = static_cast<int>(columns_->first.size());
  for (int x = 0; x < width; ++x, out += channels) {
    const float* const weights = &columns_->weights[static_cast<size_t>(x) * columns_->taps];
    const float* from = lines_.data() + ptrdiff_t{columns_->first[x] - columns_->begin} * channels;
    float sums[kMaxChannels] = {};
    for (int j = 0; j < columns_->count[x]; ++j, from += channels) {
      for (int c = 0; c < channels; ++c) sums[c] += from[c] * weights[j];
    }
    std::copy(sums, sums + channels, out);
  }
}

}  // namespace lds
