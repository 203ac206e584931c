// A crop of one image, line by line, in the layout of the output.
#pragma once

#include <vector>

#include "common/image_view.h"
#include "transform/crop.h"

namespace lds {

// One per thread. A line that needs no change is a pointer into the source.
class Lines {
 public:
  // `crop` may reach outside the image: those pixels are 0.
  void begin(const ConstImageView& image, const Crop& crop, bool flip, bool planar_out);

  // True when the lines of the output lie one after the other in the source: one run is enough.
  bool contiguous() const noexcept { return contiguous_; }

  // Line y of one plane (planar output), or of all channels interleaved.
  const uint8_t* line(int y, int channel);

 private:
  const uint8_t* cut(int y, int channel, int pixel_bytes, std::vector<uint8_t>& buffer);
  void change_layout(int y);

  ConstImageView image_;
  Crop crop_;
  bool flip_ = false, planar_source_ = true, planar_out_ = true, contiguous_ = false;
  int loaded_ = -1;  // the line whose layout was changed last
  std::vector<uint8_t> cut_[4], flipped_, changed_;
  const uint8_t* planes_[4] = {};
};

}  // namespace lds
