// Resizing with the arithmetic of Pillow's Image.resize, row by row, so that a decoder can feed it.
#pragma once

#include <memory>

#include "common/image_view.h"

namespace lds {

enum class Filter : uint8_t { nearest, box, bilinear, bicubic, lanczos };

// What is resized into what. The box (source pixels, may be fractional) is mapped on an image of
// out_width x out_height, of which only `crop` is computed.
struct ResizeSpec {
  int in_width = 0, in_height = 0, channels = 3;
  float box[4] = {0, 0, 0, 0};  // x0, y0, x1, y1, as Pillow's `box`
  int out_width = 0, out_height = 0;
  IntBox crop;
  Filter filter = Filter::bilinear;
  bool antialias = true;
};

// One per thread. Tables and buffers are kept between images, and computed again only when the
// geometry changes.
class StreamingResizer {
 public:
  StreamingResizer();
  ~StreamingResizer();

  // Starts an image. `out` is crop.width() x crop.height(), interleaved or planar.
  // Throws Error(Reason::value) for a spec that makes no sense.
  void begin(const ResizeSpec& spec, const ImageView& out);

  // The source pixels that the crop depends on.
  IntBox needed() const noexcept;

  // Takes the next needed row, top to bottom: needed().width() interleaved pixels.
  void push(const uint8_t* row);

  // True when every row of `out` is written.
  bool done() const noexcept;

 private:
  friend void resize_image(const ConstImageView&, const ResizeSpec&, const ImageView&, StreamingResizer&);
  struct State;
  std::unique_ptr<State> state_;
};

// The same for an image in memory, from and to interleaved or planar pixels. `resizer` is the thread's own.
void resize_image(const ConstImageView& source, const ResizeSpec& spec, const ImageView& out,
                  StreamingResizer& resizer);

}  // namespace lds
