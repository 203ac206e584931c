// Augmented versions of one decoded image. Version v is what a Gather gives for the same sample in epoch v, so that
// augmenting ahead of time and augmenting on the way to a batch are the same function.
#pragma once

#include <cstdint>
#include <vector>

#include "gather/gather.h"
#include "gather/lines.h"
#include "resize/resize.h"

namespace lds {

// One per thread.
class Versions {
 public:
  // `spec`: uint8 in and out, the rows' layout the same on both sides.
  Versions(const GatherSpec& spec, uint64_t seed);

  int64_t bytes() const noexcept;  // of one version

  void make(const uint8_t* image, int64_t sample, int version, uint8_t* out);

 private:
  void resized(const ConstImageView& source, const Crop& crop, bool flip, uint8_t* out);
  void copy(const ConstImageView& source, const Crop& crop, bool flip, uint8_t* out);

  GatherSpec spec_;
  uint64_t seed_;
  StreamingResizer resizer_;
  Lines lines_;
  std::vector<uint8_t> scratch_;
};

}  // namespace lds
