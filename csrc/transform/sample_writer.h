// Makes a sample from the part of an image that a geometry selects: reads, resizes, flips, normalises and lays it out
// in one pass. The loader uses it for each image of a batch, and the packer when it augments ahead of time.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "convert/convert.h"
#include "convert/image_layout.h"
#include "resize/resize.h"
#include "store/image_reader.h"
#include "transform/crop_reader.h"
#include "transform/geometry.h"
#include "transform/output_spec.h"
#include "transform/wide_sample_writer.h"

namespace lds {

// A thread's working memory. Reuse it from sample to sample: after the first ones, nothing is allocated.
struct SampleScratch {
  StreamingResizer resizer;
  CropReader reader;
  std::vector<uint8_t> resized;
  WideScratch wide;
};

// Immutable after construction and thread-safe; each thread needs its own scratch.
class SampleWriter {
 public:
  // `images` has the size of the smallest image. Those of uint8 with 1 to 4 channels are written here, by SIMD kernels
  // and with Pillow's arithmetic, and all others by WideSampleWriter. Error(Reason::value) if the arguments do not fit
  // together.
  SampleWriter(const ImageLayout& images, const AugmentSpec& augment, const OutputSpec& output);

  ImageSize size() const noexcept { return size_; }  // of a sample
  int64_t bytes() const noexcept { return int64_t{channels_} * size_.height * size_.width * pixel_bytes(output_.type); }

  // Writes bytes() bytes from the image of this size that the reader has opened. `stream` uses streaming stores, for
  // output that is not read soon; call finish_stream() at the end.
  void write(ImageReader& image, ImageSize image_size, const Geometry& geometry, uint8_t* out, bool stream,
             SampleScratch& scratch) const;

 private:
  ConstImageView resize(ImageReader& image, const Geometry& geometry, SampleScratch& scratch) const;
  void convert(CropReader& reader, bool upside_down, uint8_t* out, bool stream) const;

  int channels_;
  ImageSize size_;
  Filter filter_;
  OutputSpec output_;
  Scale scale_{};
  std::optional<WideSampleWriter> wide_;  // used for all images if it is there
};

}  // namespace lds
