#include "resize/coefficients.h"

#include <algorithm>
#include <cmath>

namespace lds {
namespace {

constexpr double kPi = 3.14159265358979323846;

// The filters of Pillow's Resample.c.
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
  x *= kPi;
  return std::sin(x) / x;
}
double lanczos_filter(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Kernel {
  double (*weight)(double);
  double support;
};

Kernel kernel_of(Filter filter) {
  switch (filter) {
    case Filter::box: return {&box_filter, 0.5};
    case Filter::bicubic: return {&bicubic_filter, 2.0};
    case Filter::lanczos: return {&lanczos_filter, 3.0};
    default: return {&bilinear_filter, 1.0};
  }
}

// Pillow takes the nearest pixel by adding up the step, not by multiplying.
Coefficients nearest(int in_size, float in0, float in1, int out_size, int begin, int end) {
  Coefficients table;
  table.taps = 1;
  const double step = (double{in1} - double{in0}) / out_size;
  double position = double{in0} + step * 0.5;
  for (int i = 0; i < end; ++i, position += step) {
    if (i < begin) continue;
    table.first.push_back(std::clamp(static_cast<int>(position), 0, in_size - 1));
    table.count.push_back(1);
    table.weights.push_back(1 << kPrecisionBits);
  }
  return table;
}

}  // namespace

Coefficients make_coefficients(int in_size, float in0, float in1, int out_size, int begin, int end, Filter filter,
                               bool antialias) {
  if (filter == Filter::nearest) return nearest(in_size, in0, in1, out_size, begin, end);
  const Kernel kernel = kernel_of(filter);
  const double scale = static_cast<double>(in1 - in0) / out_size;
  const double filter_scale = antialias ? std::max(scale, 1.0) : 1.0;
  const double support = kernel.support * filter_scale, inverse = 1.0 / filter_scale;
  Coefficients table;
  table.taps = static_cast<int>(std::ceil(support)) * 2 + 1;
  table.weights.resize(static_cast<size_t>(table.taps) * static_cast<size_t>(end - begin));
  std::vector<double> weights(static_cast<size_t>(table.taps));
  for (int i = begin; i < end; ++i) {
    const double center = in0 + (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int count = std::min(static_cast<int>(center + support + 0.5), in_size) - first;
    double sum = 0;
    for (int k = 0; k < count; ++k) sum += weights[k] = kernel.weight((k + first - center + 0.5) * inverse);
    int32_t* out = &table.weights[static_cast<size_t>(i - begin) * static_cast<size_t>(table.taps)];
    for (int k = 0; k < count; ++k) {
      const double weight = (sum != 0.0 ? weights[k] / sum : weights[k]) * (1 << kPrecisionBits);
      out[k] = static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    table.first.push_back(first);
    table.count.push_back(count);
  }
  return table;
}

}  // namespace lds
