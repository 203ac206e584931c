#include "store/jpeg_image_reader.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "common/error.h"
#include "common/size_text.h"
#include "resize/resizer_sink.h"

namespace lds {
namespace {

// Whether the first shown column, or row, is the last stored one; of a transposed image, row or column.
bool mirrors_columns(int orientation) noexcept {
  return orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
}
bool mirrors_rows(int orientation) noexcept {
  return orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
}

IntBox moved(const IntBox& box, int x, int y) noexcept { return {box.x0 + x, box.y0 + y, box.x1 + x, box.y1 + y}; }

}  // namespace

JpegImageReader::JpegImageReader(const ReadSpec& spec)
    : channels_(spec.images.channels), scaled_(spec.scaled), pixels_(spec.images.channels) {
  if (channels_ != 1 && channels_ != 3) {
    throw Error(Reason::value, "JPEG rows have 1 or 3 channels, found " + std::to_string(channels_));
  }
  options_.channels = channels_;
  options_.exif_orientation = false;  // the row's own orientation is used
  options_.jump_restarts = true;      // the hash of the row tells whether all of it is as it was packed
  if (spec.max_pixels > 0) options_.max_pixels = spec.max_pixels;
}

ImageSize JpegImageReader::open(const Extent& row) {
  const auto bytes = static_cast<size_t>(row.bytes);
  if (sniff_format(row.data, bytes) != Format::jpeg) throw Error(Reason::corrupt, "the row is no JPEG file");
  if (row.orientation < 1 || row.orientation > 8) {
    throw Error(Reason::corrupt, "an orientation is 1 to 8, found " + std::to_string(row.orientation));
  }
  decoder_.open(row.data, bytes, options_);
  holds_ = false;
  orientation_ = row.orientation;
  const ImageInfo info = decoder_.set_orientation(row.orientation);
  size_ = {info.height, info.width};
  if (size_ != row.size) {
    throw Error(Reason::corrupt,
                "the image is " + size_text(size_) + ", and the store's list of sizes says " + size_text(row.size));
  }
  return size_;
}

void JpegImageReader::hold(const std::vector<BoxRequest>& requests) {
  int scale = 8;
  for (const BoxRequest& request : requests) scale = std::min(scale, scale_for(request));
  set_scale(scale);
  IntBox all;
  for (const BoxRequest& request : requests) {
    if (!is_empty(request.box)) all = united(all, around(request.box));
  }
  pixels_.decode(decoder_, all);
  holds_ = true;
}

ConstImageView JpegImageReader::read(const IntBox& box) {
  if (!holds_) pixels_.decode(decoder_, box);
  return pixels_.view(box);
}

// The largest DCT scale that leaves the box at least as large as it becomes.
int JpegImageReader::scale_for(const BoxRequest& request) const noexcept {
  if (!scaled_ || is_empty(request.box)) return 1;
  const int ratio = std::min(request.box.width() / request.size.width, request.box.height() / request.size.height);
  return ratio >= 8 ? 8 : ratio >= 4 ? 4 : ratio >= 2 ? 2 : 1;
}

void JpegImageReader::set_scale(int scale) {
  scale_ = scale;
  scaled_size_ = size_;
  if (scale == 1) return;
  const ImageInfo info = decoder_.set_scale(scale);
  scaled_size_ = {info.height, info.width};
}

void JpegImageReader::resize(const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer,
                             const ImageView& out) {
  if (!holds_) set_scale(scale_for({box, {spec.out_height, spec.out_width}}));
  const IntBox from = around(box);
  if (holds_) {
    resizer.resize(read(from), at_scale(box, spec), out);
    return;
  }
  resizer.begin(at_scale(box, spec), out);
  ResizerSink sink(resizer);
  decoder_.read(moved(resizer.needed(), from.x0, from.y0), sink);
  if (!resizer.done()) throw Error(Reason::internal, "the decoder returned fewer rows than the resizer needs");
}

// The box where the smaller image has it, in pixels of the whole image. The last column of the smaller image as stored
// stands for fewer columns than the others. Where the image is mirrored for showing, that is the first one, so that all
// are shifted by what it lacks; so are the rows.
IntBox JpegImageReader::shifted(const IntBox& box) const noexcept {
  return moved(box, mirrors_columns(orientation_) ? scaled_size_.width * scale_ - size_.width : 0,
               mirrors_rows(orientation_) ? scaled_size_.height * scale_ - size_.height : 0);
}

// The pixels of the smaller image that the box touches.
IntBox JpegImageReader::around(const IntBox& box) const noexcept {
  const IntBox from = shifted(box);
  return {from.x0 / scale_, from.y0 / scale_, std::min((from.x1 + scale_ - 1) / scale_, scaled_size_.width),
          std::min((from.y1 + scale_ - 1) / scale_, scaled_size_.height)};
}

// Resizes the box from those pixels, between which its edges lie.
ResizeSpec JpegImageReader::at_scale(const IntBox& box, const ResizeSpec& spec) const noexcept {
  const IntBox from = shifted(box), pixels = around(box);
  const auto edge = [this](int x, int first, int size) {
    return std::min(static_cast<float>(x) / static_cast<float>(scale_) - static_cast<float>(first),
                    static_cast<float>(size));
  };
  ResizeSpec smaller = spec;
  smaller.in_width = pixels.width();
  smaller.in_height = pixels.height();
  smaller.box[0] = edge(from.x0, pixels.x0, pixels.width());
  smaller.box[1] = edge(from.y0, pixels.y0, pixels.height());
  smaller.box[2] = edge(from.x1, pixels.x0, pixels.width());
  smaller.box[3] = edge(from.y1, pixels.y0, pixels.height());
  return smaller;
}

}  // namespace lds
