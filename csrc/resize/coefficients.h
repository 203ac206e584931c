// The resampling weights of one direction, computed as Pillow's precompute_coeffs does.
#pragma once

#include <cstdint>
#include <vector>

#include "resize/filter.h"

namespace lds {

constexpr int kPrecisionBits = 22;  // as Pillow's PRECISION_BITS for 8-bit channels

// How one direction of the image is mapped. Outputs [crop0, crop1) are wanted.
struct AxisGeometry {
  int in_size = 0, out_size = 0;
  float in0 = 0, in1 = 0;
  int crop0 = 0, crop1 = 0;
  Filter filter = Filter::bilinear;
  bool antialias = true;
  bool copy = false;  // the whole resize is a crop at whole pixels
  bool operator==(const AxisGeometry&) const = default;
};

// Output i is the sum of weights[i * taps + j] * source[first[i] + j], j < taps. first and end never
// decrease; windows are cut to the weights that are not zero, and padded with zero weights to `taps`.
struct AxisTable {
  enum class Kind : uint8_t {
    copy,     // output i is source pixel first[i] = first[0] + i
    nearest,  // output i is source pixel first[i], or 0 where that is -1
    weighted,
  };
  AxisGeometry geometry;
  Kind kind = Kind::copy;
  int outputs = 0, taps = 0;
  int begin = 0, end = 0;          // the source pixels that matter
  std::vector<int> first, end_of;  // window [first[i], end_of[i])
  std::vector<int32_t> weights;

  void compute(const AxisGeometry& geometry);

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
