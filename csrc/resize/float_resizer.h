// Resizes images of any float or 16-bit values and any number of channels, in float32 arithmetic. The filters and their
// windows are those of Pillow and of torch.nn.functional.interpolate(antialias=True), which round differently.
#pragma once

#include <cstdint>
#include <vector>

#include "common/image_view.h"
#include "convert/value_kernels.h"
#include "resize/resize.h"

namespace lds {

// Output i of one direction is the sum of weights[i * taps + j] * source[first[i] + j] for j < count[i].
struct FloatAxis {
  int taps = 0;
  int begin = 0, end = 0;  // the source pixels that the outputs depend on
  std::vector<int> first, count;
  std::vector<float> weights;

  void compute(const AxisGeometry& axis);  // any filter but nearest

 private:
  std::vector<double> window_;
};

// Not thread-safe: use one per thread. Tables and buffers are reused from image to image.
class FloatResizer {
 public:
  // Resizes all of `source`, whose values have this type, to spec.out_height x spec.out_width, and writes spec.crop of
  // that to `out`: as floats, planar or interleaved as the source is. `source` has the size and channels of the spec.
  void resize(const ConstImageView& source, PixelType type, const ResizeSpec& spec, float* out);

 private:
  void sum_rows(const ConstImageView& source, PixelType type, int channel, int y, int64_t values, float* out);
  void sum_pixels_of_planes(int lines, float* out, ptrdiff_t out_stride) const;
  void sum_pixels(int channels, float* out) const;

  const ValueKernels& kernels_ = value_kernels();
  PassCache<AxisGeometry, FloatAxis> columns_cache_, rows_cache_;
  const FloatAxis* columns_ = nullptr;
  const FloatAxis* rows_ = nullptr;
  ptrdiff_t line_stride_ = 0;  // in floats
  std::vector<float> lines_;   // some resized rows, before the horizontal pass
};

}  // namespace lds
