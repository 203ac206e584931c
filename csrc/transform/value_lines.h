// Reads an image of any PixelType and any number of channels line by line: a crop of it, or what nearest-neighbour
// resizing takes of it, flipped, and in the layout of the output. Values are moved, not changed.
#pragma once

#include <cstdint>
#include <vector>

#include "common/image_view.h"
#include "convert/pick_table.h"
#include "convert/value_kernels.h"
#include "resize/coefficients.h"

namespace lds {

// Not thread-safe: use one per thread. A line that needs no change is not copied.
class ValueLines {
 public:
  struct Format {
    int64_t value_bytes = 1;
    bool planar = true;    // the output: CHW, else HWC
    bool flip = false;     // horizontally
    uint64_t padding = 0;  // the first value_bytes bytes are the value of pixels outside of the image
  };

  // `box` may extend outside of `image`.
  void begin(const ConstImageView& image, const IntBox& box, const Format& format);

  // The pixels that nearest-neighbour tables of both directions select.
  void begin(const ConstImageView& image, const AxisTable& columns, const AxisTable& rows, const Format& format);

  // True if all lines are contiguous in the source, so that line(0, c) points to all of them.
  bool contiguous() const noexcept { return contiguous_; }

  // Line y: of one channel for planar output, else of all channels interleaved. Valid until the next call.
  const uint8_t* line(int y, int channel);

 private:
  void set_image(const ConstImageView& image, int width, const Format& format);
  template <class Word>
  void copy_line(const uint8_t* row, int channel, int channels, uint8_t* out) const;
  template <class Word>
  void fill_padding(int from, int to, int channels, uint8_t* out) const;
  const uint8_t* padding_line();
  const uint8_t* picked_line(int y, int channel);

  const ValueKernels& kernels_ = value_kernels();
  ConstImageView image_;
  Format format_;
  IntBox box_;
  int width_ = 0;                             // of a line, in pixels
  int inside_begin_ = 0, inside_end_ = 0;     // the pixels of a line that lie inside the image
  int source_ = 0, step_ = 1;                 // of those: the column of the first one, and 1 or -1
  const AxisTable* rows_ = nullptr;           // of what nearest-neighbour resizing takes, or null
  PickTable columns_;                         // of those
  int picked_row_ = -1, picked_channel_ = 0;  // what of the source is in line_
  bool same_layout_ = false, contiguous_ = false, padding_is_filled_ = false;
  std::vector<uint8_t> line_, padding_line_;
};

}  // namespace lds
