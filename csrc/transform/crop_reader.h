// Reads a crop of an image of uint8 with 1 to 4 channels line by line, flipped and in the layout of the output.
#pragma once

#include <vector>

#include "common/image_view.h"

namespace lds {

// Not thread-safe: use one per thread. A line that needs no change is not copied.
class CropReader {
 public:
  // `box` may extend outside of `image`, where pixels have the value `padding`.
  void begin(const ConstImageView& image, const IntBox& box, bool flip, bool planar_out, uint8_t padding = 0);

  // True if all lines of the crop are contiguous in the source, so that line(0, c) points to all of them.
  bool contiguous() const noexcept { return contiguous_; }

  // Line y: of one channel for planar output, else of all channels interleaved. Valid until the next call.
  const uint8_t* line(int y, int channel);

 private:
  const uint8_t* cut(int y, int channel, int pixel_bytes, std::vector<uint8_t>& buffer);
  void convert_layout(int y);

  ConstImageView image_;
  IntBox box_;
  uint8_t padding_ = 0;
  bool flip_ = false, planar_source_ = true, planar_out_ = true, contiguous_ = false;
  int converted_line_ = -1;  // the line that is in converted_
  std::vector<uint8_t> cut_[4], flipped_, converted_;
  const uint8_t* planes_[4] = {};
};

// Copies the whole image as planes or as interleaved pixels.
void copy_pixels(const ConstImageView& image, bool planar, CropReader& reader, uint8_t* out);

}  // namespace lds
