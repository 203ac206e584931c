// Resizes images with the arithmetic of Pillow's Image.resize, row by row, so that a decoder can push its rows.
#pragma once

#include <optional>
#include <vector>

#include "common/image_view.h"
#include "convert/value_kernels.h"
#include "resize/kernels.h"

namespace lds {

// Describes a resize: the box of the source, which may be fractional, is resized to out_width x out_height, and only
// `crop` of the result is computed.
struct ResizeSpec {
  int in_width = 0, in_height = 0, channels = 3;
  float box[4] = {0, 0, 0, 0};  // x0, y0, x1, y1, like Pillow's `box` argument
  int out_width = 0, out_height = 0;
  IntBox crop;
  Filter filter = Filter::bilinear;
  bool antialias = true;
};

// Caches the few most recent passes. The pass that was found last is never the next one to be replaced.
template <class Key, class Pass>
class PassCache {
 public:
  // Returns the pass for this key. If it is not cached, fill(pass) computes it.
  template <class Fill>
  Pass& find(const Key& key, Fill fill) {
    for (int i = 0; i < kSize; ++i) {
      if (entries_[i].key == key) return entries_[recent_ = i].pass;
    }
    recent_ = (recent_ + 1) % kSize;
    Entry& entry = entries_[recent_];
    entry.key.reset();
    fill(entry.pass);
    entry.key = key;  // last, so that find() ignores the entry if fill() throws
    return entry.pass;
  }

 private:
  static constexpr int kSize = 8;  // most images of a data set have one of a few common sizes
  struct Entry {
    std::optional<Key> key;
    Pass pass;
  };
  Entry entries_[kSize];
  int recent_ = 0;
};

// Not thread-safe: use one per thread. Tables and buffers are reused from image to image as long as the geometry is the
// same.
class StreamingResizer {
 public:
  StreamingResizer() = default;
  ~StreamingResizer() = default;
  StreamingResizer(const StreamingResizer&) = delete;
  StreamingResizer& operator=(const StreamingResizer&) = delete;

  // Starts an image. `out` is crop.width() x crop.height() pixels, interleaved or planar. Error(Reason::value) for an
  // invalid spec.
  void begin(const ResizeSpec& spec, const ImageView& out) { begin(spec, out, 0); }

  // The source pixels that the crop depends on.
  IntBox needed() const noexcept;

  // Takes the next row of needed(), top to bottom: needed().width() interleaved pixels.
  void push(const uint8_t* row);

  // True if every row of `out` is written.
  bool done() const noexcept { return active_ && next_out_ == vertical_->table.outputs; }

  // Resizes a whole image in memory, interleaved or planar.
  void resize(const ConstImageView& source, const ResizeSpec& spec, const ImageView& out);

 private:
  struct HorizontalKey {
    AxisGeometry axis;
    int channels = 0;
    bool operator==(const HorizontalKey&) const = default;
  };
  void begin(const ResizeSpec& spec, const ImageView& out, ptrdiff_t source_channel_stride);
  void set_passes();
  void set_buffers();
  uint8_t* ring_row(int row) { return ring_.data() + (row % ring_rows_) * row_stride_; }
  void fill_ring_row(const uint8_t* row, uint8_t* dst);
  void horizontal_pass(const uint8_t* row, uint8_t* dst);
  void vertical_line(int channel, uint8_t* dst);
  void emit_row();

  const Kernels& kernels_ = resize_kernels();
  const ValueKernels& value_kernels_ = value_kernels();
  ResizeSpec spec_;
  ImageView out_;
  bool active_ = false;
  HorizontalPass* horizontal_ = nullptr;
  VerticalPass* vertical_ = nullptr;
  PassCache<HorizontalKey, HorizontalPass> horizontal_cache_;
  PassCache<AxisGeometry, VerticalPass> vertical_cache_;

  ptrdiff_t source_channel_stride_ = 0;  // of planar source rows; 0 if they are interleaved
  bool vertical_first_ = false;          // if true, the ring holds source rows
  int next_row_ = 0;                     // of the source
  int next_out_ = 0;
  int ring_rows_ = 0, ring_width_ = 0;
  ptrdiff_t line_stride_ = 0, row_stride_ = 0;  // a row of the ring has one line per channel
  std::vector<uint8_t> ring_;
  std::vector<uint8_t> line_;    // one output row, before interleaving
  std::vector<uint8_t> column_;  // one channel between the passes, if the vertical pass is first
  std::vector<const uint8_t*> window_;
};

}  // namespace lds
