// Makes samples of images that the kernels for uint8 of 1 to 4 channels do not know: up to 32 channels of any type.
#pragma once

#include <cstdint>
#include <vector>

#include "convert/image_layout.h"
#include "convert/value_kernels.h"
#include "resize/float_resizer.h"
#include "store/image_reader.h"
#include "transform/geometry.h"
#include "transform/output_spec.h"
#include "transform/value_lines.h"

namespace lds {

// The factor that maps the range of an integer type to 1: 1/255, 1/65535, 1/32768. Of others: 1.
float unit_of(PixelType type) noexcept;

// A thread's working memory. Reuse it from sample to sample: after the first ones, nothing is allocated.
struct WideScratch {
  FloatResizer resizer;
  ValueLines lines;
  AxisTable columns, rows;
  std::vector<float> resized;
};

// Immutable after construction and thread-safe; each thread needs its own scratch. What is resized, except by
// Filter::nearest, is computed in float32, and rounded to nearest even for integer output.
class WideSampleWriter {
 public:
  // `size` is that of a sample. `filter` is used where the geometry resizes. Error(Reason::value) if the arguments do
  // not fit together.
  WideSampleWriter(const ImageLayout& images, ImageSize size, bool resizes, Filter filter, const OutputSpec& output);

  void write(ImageReader& image, ImageSize image_size, const Geometry& geometry, uint8_t* out,
             WideScratch& scratch) const;

  // The same, of the pixels of the box `inside`, which is what of geometry.box lies inside the image.
  void write(const ConstImageView& pixels, const IntBox& inside, const Geometry& geometry, uint8_t* out,
             WideScratch& scratch) const;

 private:
  void check_types(bool resizes) const;
  void set_scale(const OutputSpec& output);
  ConstImageView resize(const ConstImageView& box, const Geometry& geometry, WideScratch& scratch) const;
  void set_nearest(const ConstImageView& box, const Geometry& geometry, const ValueLines::Format& format,
                   WideScratch& scratch) const;
  void write_lines(ValueLines& lines, PixelType type, bool upside_down, uint8_t* out) const;
  void write_run(const uint8_t* values, PixelType type, int64_t n, int channel, uint8_t* out) const;

  int channels_;
  PixelType image_type_, type_;
  ImageSize size_;
  Filter filter_;
  bool planar_;
  bool scales_ = false;                // values are multiplied and added to
  uint64_t padding_ = 0;               // as bytes of image_type_
  int64_t block_ = 0;                  // the number of values that are converted at once: whole pixels
  std::vector<float> multiply_, add_;  // of each value of a block; planar output: of a block for each channel
};

}  // namespace lds
