// The weights of one axis of a resize, in Pillow's fixed point.
#pragma once

#include <cstdint>
#include <vector>

#include "resize/resize.h"

namespace lds {

// Pillow: 32 bits, less 8 for the pixel, less 2 for sign and overshoot (libImaging/Resample.c).
constexpr int kPrecisionBits = 32 - 8 - 2;

// Taps are padded with zero weights to a multiple of this, so that kernels need no tail per pixel.
constexpr int kTapStep = 4;

struct AxisSpec {
  int in_size = 0;
  float begin = 0, end = 0;  // the box along this axis
  int out_size = 0;
  int crop_begin = 0, crop_end = 0;  // the outputs that are wanted
  Filter filter = Filter::bilinear;
  bool antialias = true;
  bool operator==(const AxisSpec&) const = default;

  // Pillow leaves out the pass along an axis that would change nothing.
  bool is_identity() const noexcept {
    return out_size == in_size && begin == 0.0F && end == static_cast<float>(out_size);
  }
};

// For each wanted output: where its source pixels begin, how many there are, and their weights.
// The SIMD kernels multiply 16-bit halves: weight == high * 32768 + low with 0 <= low < 32768.
struct FilterTable {
  AxisSpec axis;
  int source_begin = 0, source_end = 0;  // all source pixels that any wanted output uses
  int stride = 0;                        // weights per output, a multiple of kTapStep
  std::vector<int> first, taps;          // first is relative to source_begin
  std::vector<int> reach;                // first pixel of the last step that outputs 0..i load, never falling
  std::vector<int32_t> weights;          // [output][tap]
  std::vector<int16_t> halves;           // [output][tap / 4][low 0..3, high 0..3]
  std::vector<double> scratch;           // weights before rounding, kept for its memory

  // Computes the table, unless it already stands for this axis.
  void prepare(const AxisSpec& spec);

 private:
  void weigh();
  void locate_nearest();
  void copy_through();
};

}  // namespace lds
