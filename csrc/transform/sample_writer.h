// What a geometry shows of an image -> one sample, in one pass: resize, flip, normalise, layout. The same for the
// loader, image by image of a batch, and for a pack that augments ahead of time.
#pragma once

#include <cstdint>
#include <vector>

#include "convert/image_layout.h"
#include "resize/resize.h"
#include "transform/crop_reader.h"
#include "transform/geometry.h"

namespace lds {

struct OutputSpec {
  bool planar = true;  // CHW, else HWC (channels_last)
  PixelType type = PixelType::float32;
  // A float value is uint8 * multiply[c] + add[c]; mean, std and 1/255 are folded into these. Empty: 1/255 and 0.
  std::vector<float> multiply, add;
};

// What a thread needs for its samples; kept between them, so that nothing is allocated once warm.
struct SampleScratch {
  StreamingResizer resizer;
  CropReader reader;
  std::vector<uint8_t> resized;
};

// Immutable after construction; safe from several threads, each with a scratch of its own.
class SampleWriter {
 public:
  // For images of these channels and type, cropped as `augment` says. Images that are floats already pass through.
  // Error(Reason::value) naming expected and found unless all fit together.
  SampleWriter(const ImageLayout& images, const AugmentSpec& augment, const OutputSpec& output);

  ImageSize size() const noexcept { return size_; }  // of every sample
  int64_t bytes() const noexcept { return int64_t{channels_} * size_.height * size_.width * pixel_bytes(output_.type); }

  // Writes bytes() bytes. `inside`: the pixels of geometry.inside(image); the rest of the box is 0.
  // `stream`: past the caches, for output that nobody reads soon; end with finish_stream().
  void write(const ConstImageView& inside, const Geometry& geometry, uint8_t* out, bool stream,
             SampleScratch& scratch) const;

 private:
  ConstImageView resize(const ConstImageView& box, SampleScratch& scratch) const;
  void convert(CropReader& reader, uint8_t* out, bool stream) const;
  void copy_floats(const ConstImageView& inside, const IntBox& box, bool flip, uint8_t* out) const;

  int channels_;
  PixelType image_type_;
  ImageSize size_;
  OutputSpec output_;
  Scale scale_{};
};

}  // namespace lds
