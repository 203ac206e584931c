// A crop of one image, line by line, in the layout of the output.
#pragma once

#include <vector>

#include "common/image_view.h"

namespace lds {

// One per thread. A line that needs no change is a pointer into the source.
class CropReader {
 public:
  // `box` may reach outside of `image`: those pixels are 0.
  void begin(const ConstImageView& image, const IntBox& box, bool flip, bool planar_out);

  // True when the lines of the output lie one after the other in the source: one run is enough.
  bool contiguous() const noexcept { return contiguous_; }

  // Line y of one plane (planar output), or of all channels interleaved.
  const uint8_t* line(int y, int channel);

 private:
  const uint8_t* cut(int y, int channel, int pixel_bytes, std::vector<uint8_t>& buffer);
  void change_layout(int y);

  ConstImageView image_;
  IntBox box_;
  bool flip_ = false, planar_source_ = true, planar_out_ = true, contiguous_ = false;
  int changed_line_ = -1;  // the line that is in changed_
  std::vector<uint8_t> cut_[4], flipped_, changed_;
  const uint8_t* planes_[4] = {};
};

// The whole image, as planes or as interleaved pixels.
void copy_pixels(const ConstImageView& image, bool planar, CropReader& reader, uint8_t* out);

}  // namespace lds
