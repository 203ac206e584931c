// The weights of Pillow's Image.resize along one axis.
#pragma once

#include <cstdint>
#include <vector>

#include "resize/resize.h"

namespace lds {

constexpr int kPrecisionBits = 32 - 8 - 2;  // of the fixed-point weights

// Output pixel i is the sum over k of weights[i * taps + k] * source[first[i] + k], k < count[i].
struct Coefficients {
  int taps = 0;
  std::vector<int> first, count;
  std::vector<int32_t> weights;
};

// Weights of the outputs [begin, end) of out_size, for the source interval [in0, in1) of in_size pixels.
Coefficients make_coefficients(int in_size, float in0, float in1, int out_size, int begin, int end, Filter filter,
                               bool antialias);

}  // namespace lds
