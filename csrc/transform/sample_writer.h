// Makes a sample from the part of an image that a geometry selects: reads, resizes, flips, normalises and lays it out
// in one pass. The loader uses it for each image of a batch, and the packer when it augments ahead of time.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "convert/image_layout.h"
#include "resize/resize.h"
#include "store/image_reader.h"
#include "transform/crop_reader.h"
#include "transform/geometry.h"

namespace lds {

struct OutputSpec {
  bool planar = true;  // CHW, else HWC (channels_last)
  PixelType type = PixelType::float32;
  // Float output is uint8 * multiply[c] + add[c], which includes mean, std and 1/255. Empty: 1/255 and 0.
  std::vector<float> multiply, add;
  double padding = 0;                 // the value of pixels outside of the image, before that
  std::optional<Filter> filter = {};  // for what is resized, instead of the augmentation's
};

// A thread's working memory. Reuse it from sample to sample: after the first ones, nothing is allocated.
struct SampleScratch {
  StreamingResizer resizer;
  CropReader reader;
  std::vector<uint8_t> resized;
};

// Immutable after construction and thread-safe; each thread needs its own scratch.
class SampleWriter {
 public:
  // `images` has the size of the smallest image. Float images are not normalised: their values are copied.
  // Error(Reason::value) if the arguments do not fit together.
  SampleWriter(const ImageLayout& images, const AugmentSpec& augment, const OutputSpec& output);

  ImageSize size() const noexcept { return size_; }  // of a sample
  int64_t bytes() const noexcept { return int64_t{channels_} * size_.height * size_.width * pixel_bytes(output_.type); }

  // Writes bytes() bytes from the image of this size that the reader has opened. `stream` uses streaming stores, for
  // output that is not read soon; call finish_stream() at the end.
  void write(ImageReader& image, ImageSize image_size, const Geometry& geometry, uint8_t* out, bool stream,
             SampleScratch& scratch) const;

 private:
  ConstImageView resize(ImageReader& image, const Geometry& geometry, SampleScratch& scratch) const;
  void convert(CropReader& reader, uint8_t* out, bool stream) const;
  void copy_floats(const ConstImageView& inside, const IntBox& box, bool flip, uint8_t* out) const;

  int channels_;
  PixelType image_type_;
  ImageSize size_;
  Filter filter_;
  OutputSpec output_;
  Scale scale_{};
};

}  // namespace lds
