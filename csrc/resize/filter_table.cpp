#include "resize/filter_table.h"

#include <algorithm>
#include <cmath>

namespace lds {
namespace {

// The filters of Pillow's Resample.c, to the operation: a different rounding of a weight is a different pixel.
double box_filter(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear_filter(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double bicubic_filter(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x = x * M_PI;
  return std::sin(x) / x;
}

double lanczos_filter(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct FilterShape {
  double (*weight)(double);
  double support;
};

FilterShape filter_shape(Filter filter) {
  switch (filter) {
    case Filter::box: return {box_filter, 0.5};
    case Filter::bicubic: return {bicubic_filter, 2.0};
    case Filter::lanczos: return {lanczos_filter, 3.0};
    default: return {bilinear_filter, 1.0};
  }
}

int32_t round_weight(double weight) {
  const double scaled = weight * (1 << kPrecisionBits);
  return static_cast<int32_t>(weight < 0 ? -0.5 + scaled : 0.5 + scaled);
}

int padded(int taps) { return (taps + kTapStep - 1) / kTapStep * kTapStep; }

}  // namespace

void FilterTable::prepare(const AxisSpec& spec) {
  if (!first.empty() && axis == spec) return;
  axis = spec;
  const auto outputs = static_cast<size_t>(spec.crop_end - spec.crop_begin);
  first.resize(outputs);
  taps.resize(outputs);
  if (spec.is_identity()) {
    copy_through();
  } else if (spec.filter == Filter::nearest) {
    locate_nearest();
  } else {
    weigh();
  }
}

void FilterTable::copy_through() {
  source_begin = axis.crop_begin;
  source_end = axis.crop_end;
  stride = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    first[i] = static_cast<int>(i);
    taps[i] = 1;
  }
}

// As Pillow's affine transform with a pure scale: positions are accumulated, not multiplied.
void FilterTable::locate_nearest() {
  const double step = static_cast<double>(axis.end - axis.begin) / axis.out_size;
  double position = axis.begin + step * 0.5;
  stride = 0;
  for (int i = 0; i < axis.crop_end; ++i, position += step) {
    if (i < axis.crop_begin) continue;
    first[static_cast<size_t>(i - axis.crop_begin)] = std::clamp(static_cast<int>(position), 0, axis.in_size - 1);
  }
  source_begin = first.front();
  source_end = first.back() + 1;
  for (size_t i = 0; i < first.size(); ++i) {
    first[i] -= source_begin;
    taps[i] = 1;
  }
}

// precompute_coeffs and normalize_coeffs_8bpc of Pillow's Resample.c.
void FilterTable::weigh() {
  const FilterShape shape = filter_shape(axis.filter);
  const double scale = static_cast<double>(axis.end - axis.begin) / axis.out_size;
  const double filter_scale = axis.antialias ? std::max(scale, 1.0) : 1.0;
  const double support = shape.support * filter_scale;
  const double inverse = 1.0 / filter_scale;
  stride = padded(static_cast<int>(std::ceil(support)) * 2 + 1);
  const size_t outputs = first.size();
  weights.assign(outputs * static_cast<size_t>(stride), 0);
  halves.resize(weights.size() * 2);
  scratch.resize(static_cast<size_t>(stride));

  for (size_t i = 0; i < outputs; ++i) {
    const double center = axis.begin + (axis.crop_begin + static_cast<int>(i) + 0.5) * scale;
    const int begin = std::max(static_cast<int>(center - support + 0.5), 0);
    const int count = std::min(static_cast<int>(center + support + 0.5), axis.in_size) - begin;
    double sum = 0.0;
    for (int tap = 0; tap < count; ++tap) {
      const double weight = shape.weight((tap + begin - center + 0.5) * inverse);
      scratch[static_cast<size_t>(tap)] = weight;
      sum += weight;
    }
    int32_t* row = weights.data() + i * static_cast<size_t>(stride);
    for (int tap = 0; tap < count; ++tap) {
      const double weight = scratch[static_cast<size_t>(tap)];
      row[tap] = round_weight(sum != 0.0 ? weight / sum : weight);
    }
    first[i] = begin;
    taps[i] = count;
  }
  source_begin = first.front();
  source_end = first.back() + taps.back();
  for (size_t i = 0; i < outputs; ++i) {
    source_end = std::max(source_end, first[i] + taps[i]);
    first[i] -= source_begin;
  }
  reach.resize(outputs);
  for (size_t i = 0; i < outputs; ++i) {
    const int last_step = first[i] + padded(taps[i]) - kTapStep;
    reach[i] = i == 0 ? last_step : std::max(reach[i - 1], last_step);
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    const size_t base = i / kTapStep * kTapStep * 2 + i % kTapStep;
    halves[base] = static_cast<int16_t>(weights[i] & 0x7fff);
    halves[base + kTapStep] = static_cast<int16_t>(weights[i] >> 15);
  }
}

}  // namespace lds
