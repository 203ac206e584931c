// Computes the resampling weights of one direction like precompute_coeffs of Pillow's Resample.c.
#pragma once

#include <cstdint>
#include <vector>

#include "resize/filter.h"

namespace lds {

constexpr int kPrecisionBits = 22;  // Pillow's PRECISION_BITS for 8-bit channels

// Maps source pixels [in0, in1) to out_size outputs, of which only [crop0, crop1) are computed.
struct AxisGeometry {
  int in_size = 0, out_size = 0;
  float in0 = 0, in1 = 0;
  int crop0 = 0, crop1 = 0;
  Filter filter = Filter::bilinear;
  bool antialias = true;
  bool copy = false;  // the resize is only a crop at whole pixels
  bool operator==(const AxisGeometry&) const = default;
};

// Output i is the sum of weights[i * taps + j] * source[first[i] + j] for j < taps. Windows exclude zero weights at
// both ends, and are padded with zero weights to `taps`. `first` and `end_of` never decrease.
struct AxisTable {
  enum class Kind : uint8_t {
    copy,      // output i is source pixel first[i] = first[0] + i
    nearest,   // output i is source pixel first[i], or 0 if that is -1
    weighted,  // output i is a weighted sum
  };
  AxisGeometry geometry;
  Kind kind = Kind::copy;
  int outputs = 0, taps = 0;
  int begin = 0, end = 0;          // the source pixels that the outputs depend on
  std::vector<int> first, end_of;  // the window of output i is [first[i], end_of[i])
  std::vector<int32_t> weights;

  void compute(const AxisGeometry& axis);

 private:
  void compute_copy(int offset);
  void compute_nearest();
  template <class Function>
  void compute_weighted(double filter_support, Function function);
  void store_windows(int stride);

  std::vector<double> raw_;
  std::vector<int32_t> fixed_;
};

}  // namespace lds
