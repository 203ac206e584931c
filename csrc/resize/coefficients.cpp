#include "resize/coefficients.h"

#include <algorithm>
#include <cmath>

#include "resize/filter_functions.h"

namespace lds {
namespace {

int32_t to_fixed(double weight) {
  const double scaled = weight * (1 << kPrecisionBits);
  return static_cast<int32_t>(weight < 0 ? -0.5 + scaled : 0.5 + scaled);
}

}  // namespace

void AxisTable::compute(const AxisGeometry& axis) {
  geometry = axis;
  outputs = axis.crop1 - axis.crop0;
  first.resize(outputs);
  end_of.resize(outputs);
  taps = 1;
  if (axis.copy) {
    compute_copy(static_cast<int>(axis.in0));
  } else if (axis.filter == Filter::nearest) {
    compute_nearest();
  } else if (axis.out_size == axis.in_size && axis.in0 == 0 && axis.in1 == static_cast<float>(axis.in_size)) {
    compute_copy(0);  // Pillow skips such a pass
  } else {
    switch (axis.filter) {  // lambdas, which the loop can inline
      case Filter::box: compute_weighted(0.5, [](double x) { return box_filter(x); }); break;
      case Filter::bicubic: compute_weighted(2.0, [](double x) { return bicubic_filter(x); }); break;
      case Filter::lanczos: compute_weighted(3.0, lanczos_filter); break;
      default: compute_weighted(1.0, [](double x) { return bilinear_filter(x); }); break;
    }
  }
}

void AxisTable::compute_copy(int offset) {
  kind = Kind::copy;
  for (int i = 0; i < outputs; ++i) {
    first[i] = offset + geometry.crop0 + i;
    end_of[i] = first[i] + 1;
  }
  begin = first.front();
  end = end_of.back();
}

// Like Pillow's ImagingScaleAffine, adds the step repeatedly. Rounding may carry the sum past the last pixel; the
// output is then 0.
void AxisTable::compute_nearest() {
  kind = Kind::nearest;
  const double step = static_cast<double>(geometry.in1 - geometry.in0) / geometry.out_size;
  double position = geometry.in0 + step * 0.5;
  for (int i = 0; i < geometry.crop0; ++i) position += step;
  int last = 0;
  for (int i = 0; i < outputs; ++i, position += step) {
    const int source = position < 0 ? -1 : static_cast<int>(position);
    first[i] = source < geometry.in_size ? source : -1;
    last = std::max(last, first[i]);
    end_of[i] = last + 1;
  }
  begin = first.front() >= 0 ? first.front() : last;
  end = last + 1;
}

template <class Function>
void AxisTable::compute_weighted(double filter_support, Function function) {
  kind = Kind::weighted;
  const double scale = static_cast<double>(geometry.in1 - geometry.in0) / geometry.out_size;
  const double filter_scale = geometry.antialias ? std::max(scale, 1.0) : 1.0;
  const double support = filter_support * filter_scale;
  const double inverse = 1.0 / filter_scale;
  const int stride = static_cast<int>(std::ceil(support)) * 2 + 1;
  raw_.resize(stride);
  fixed_.assign(static_cast<size_t>(outputs) * stride, 0);
  for (int i = 0; i < outputs; ++i) {
    const double center = geometry.in0 + (geometry.crop0 + i + 0.5) * scale;
    const double from = center - support + 0.5, to = center + support + 0.5;  // truncated below, like in Pillow
    const int low = std::max(static_cast<int>(from), 0);
    const int count = std::min(static_cast<int>(to), geometry.in_size) - low;
    double sum = 0.0;
    for (int j = 0; j < count; ++j) {
      raw_[j] = function((j + low - center + 0.5) * inverse);
      sum += raw_[j];
    }
    int32_t* fixed = &fixed_[static_cast<size_t>(i) * stride];
    for (int j = 0; j < count; ++j) fixed[j] = to_fixed(sum != 0.0 ? raw_[j] / sum : raw_[j]);
    first[i] = low;
    end_of[i] = low + count;
  }
  store_windows(stride);
}

// Trims zero weights from the windows, makes `first` and `end_of` non-decreasing, and writes the final weights.
void AxisTable::store_windows(int stride) {
  raw_.resize(outputs);  // reused for the untrimmed starts
  for (int i = 0; i < outputs; ++i) {
    const int32_t* fixed = &fixed_[static_cast<size_t>(i) * stride];
    raw_[i] = first[i];
    int low = 0, high = end_of[i] - first[i];
    while (high > 1 && fixed[high - 1] == 0) --high;
    while (low < high - 1 && fixed[low] == 0) ++low;
    end_of[i] = first[i] + std::max(high, 1);
    first[i] += low;
  }
  for (int i = 1; i < outputs; ++i) end_of[i] = std::max(end_of[i], end_of[i - 1]);
  for (int i = outputs - 2; i >= 0; --i) first[i] = std::min(first[i], first[i + 1]);
  for (int i = 0; i < outputs; ++i) taps = std::max(taps, end_of[i] - first[i]);
  weights.assign(static_cast<size_t>(outputs) * taps, 0);
  for (int i = 0; i < outputs; ++i) {
    const int start = static_cast<int>(raw_[i]);
    for (int s = std::max(first[i], start); s < std::min(end_of[i], start + stride); ++s) {
      weights[static_cast<size_t>(i) * taps + s - first[i]] = fixed_[static_cast<size_t>(i) * stride + s - start];
    }
  }
  begin = first.front();
  end = end_of.back();
}

}  // namespace lds
