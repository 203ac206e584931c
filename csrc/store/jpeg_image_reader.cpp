#include "store/jpeg_image_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "common/error.h"
#include "common/kept_buffer.h"
#include "resize/resizer_sink.h"

namespace lds {
namespace {

class CopySink : public RowSink {
 public:
  CopySink(uint8_t* out, size_t row_bytes) : out_(out), row_bytes_(row_bytes) {}
  void push(const uint8_t* row) override {
    std::memcpy(out_, row, row_bytes_);
    out_ += row_bytes_;
  }

 private:
  uint8_t* out_;
  size_t row_bytes_;
};

std::string size_text(ImageSize size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

// Whether the first shown column, or row, is the last stored one; of a transposed image, row or column.
bool mirrors_columns(int orientation) noexcept {
  return orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
}
bool mirrors_rows(int orientation) noexcept {
  return orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
}

IntBox moved(const IntBox& box, int x, int y) noexcept { return {box.x0 + x, box.y0 + y, box.x1 + x, box.y1 + y}; }

}  // namespace

JpegImageReader::JpegImageReader(const ReadSpec& spec) : channels_(spec.images.channels), scaled_(spec.scaled) {
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
  orientation_ = row.orientation;
  const ImageInfo info = decoder_.set_orientation(row.orientation);
  size_ = {info.height, info.width};
  if (size_ != row.size) {
    throw Error(Reason::corrupt,
                "the image is " + size_text(size_) + ", and the store's list of sizes says " + size_text(row.size));
  }
  return size_;
}

ConstImageView JpegImageReader::read(const IntBox& box) {
  const auto row_bytes = static_cast<size_t>(box.width()) * static_cast<size_t>(channels_);
  give_back_if_large(pixels_);
  pixels_.resize(std::max(pixels_.size(), row_bytes * static_cast<size_t>(box.height())));
  CopySink sink(pixels_.data(), row_bytes);
  if (box.width() > 0 && box.height() > 0) decoder_.read(box, sink);
  return ConstImageView::hwc(pixels_.data(), box.height(), box.width(), channels_);
}

// The largest DCT scale that leaves the box at least as large as it becomes.
int JpegImageReader::scale_for(const IntBox& box, const ResizeSpec& spec) const noexcept {
  const int ratio = std::min(box.width() / spec.out_width, box.height() / spec.out_height);
  return ratio >= 8 ? 8 : ratio >= 4 ? 4 : ratio >= 2 ? 2 : 1;
}

void JpegImageReader::resize(const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer,
                             const ImageView& out) {
  const int scale = scaled_ ? scale_for(box, spec) : 1;
  if (scale > 1) {
    resize_scaled(scale, box, spec, resizer, out);
  } else {
    resizer.begin(spec, out);
    ResizerSink sink(resizer);
    decoder_.read(moved(resizer.needed(), box.x0, box.y0), sink);
  }
  if (!resizer.done()) throw Error(Reason::internal, "the decoder returned fewer rows than the resizer needs");
}

// Resizes the box from the smaller image, in which its edges lie between pixels. The last column of the smaller image
// as stored stands for fewer columns than the others. Where the image is mirrored for showing, that is the first one,
// so that all are shifted by what it lacks; so are the rows.
void JpegImageReader::resize_scaled(int scale, const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer,
                                    const ImageView& out) {
  const ImageInfo info = decoder_.set_scale(scale);
  const int lacking_x = mirrors_columns(orientation_) ? info.width * scale - size_.width : 0;
  const int lacking_y = mirrors_rows(orientation_) ? info.height * scale - size_.height : 0;
  const IntBox from = moved(box, lacking_x, lacking_y);
  const IntBox around{from.x0 / scale, from.y0 / scale, std::min((from.x1 + scale - 1) / scale, info.width),
                      std::min((from.y1 + scale - 1) / scale, info.height)};
  const auto edge = [scale](int x, int first, int size) {
    return std::min(static_cast<float>(x) / static_cast<float>(scale) - static_cast<float>(first),
                    static_cast<float>(size));
  };
  ResizeSpec smaller = spec;
  smaller.in_width = around.width();
  smaller.in_height = around.height();
  smaller.box[0] = edge(from.x0, around.x0, around.width());
  smaller.box[1] = edge(from.y0, around.y0, around.height());
  smaller.box[2] = edge(from.x1, around.x0, around.width());
  smaller.box[3] = edge(from.y1, around.y0, around.height());
  resizer.begin(smaller, out);
  ResizerSink sink(resizer);
  decoder_.read(moved(resizer.needed(), around.x0, around.y0), sink);
}

}  // namespace lds
