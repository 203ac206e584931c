// One image -> one sample, in one pass: crop, flip, resize, normalise, layout. The same for the loader, image by image
// of a batch, and for a pack that augments ahead of time.
#pragma once

#include <cstdint>
#include <vector>

#include "common/random.h"
#include "resize/resize.h"
#include "transform/lines.h"
#include "transform/sample_spec.h"

namespace lds {

// What a thread needs for its samples; kept between them, so that nothing is allocated once warm.
struct SampleScratch {
  StreamingResizer resizer;
  Lines lines;
  std::vector<uint8_t> resized;
};

// Immutable after construction; safe from several threads, each with a scratch of its own.
class SampleMaker {
 public:
  explicit SampleMaker(const SampleSpec& spec);  // Error(Reason::value)

  const SampleSpec& spec() const noexcept { return spec_; }

  // Writes spec().out_bytes() bytes. Consumes the sample's draws.
  // `stream`: past the caches, for output that nobody reads soon; end with finish_stream().
  void make(const uint8_t* image, SampleRandom& random, uint8_t* out, bool stream, SampleScratch& scratch) const;

 private:
  ConstImageView resize(const ConstImageView& source, const Crop& crop, SampleScratch& scratch) const;
  void convert(Lines& lines, uint8_t* out, bool stream) const;
  void copy_floats(const uint8_t* image, const Crop& crop, bool flip, uint8_t* out) const;

  SampleSpec spec_;
  Scale scale_{};
};

}  // namespace lds
