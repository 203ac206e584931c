#include "packing/mask_to_png.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "common/error.h"
#include "common/kept_buffer.h"
#include "resize/resizer_sink.h"

namespace lds {
namespace {

constexpr size_t kMaxOverhead = 4096;  // of a file that is kept, over its numbers without compression

// Whether rows are stored one after another: an interlaced file is decoded whole for any part of it.
bool is_sequential(const uint8_t* data, size_t size) noexcept { return size > 28 && data[28] == 0; }

}  // namespace

MaskToPng::MaskToPng(const RowSpec& row) : row_(row) {
  if (!row.decode.mask || row.decode.channels > 2) throw Error(Reason::value, "expected masks of 8 or 16 bits a pixel");
  if (row.resize_h < 0 || row.resize_w != 0 || row.crop_h != 0 || row.crop_w != 0) {
    throw Error(Reason::value, "a PNG row is neither cropped nor resized to a width and a height");
  }
  row_.filter = Filter::nearest;
}

JpegRow MaskToPng::convert(const uint8_t* data, size_t size, std::vector<uint8_t>& out) {
  const ImageInfo info = decoder_.open(data, size, row_.decode);
  JpegRow row = begin(info.width, info.height);
  ResizerSink sink(resizer_, stop_);
  decoder_.read(resizer_.needed(), sink);
  const size_t largest = numbers_.size() + kMaxOverhead;
  if (row.kept == Kept::encoded && info.orientation == 1 && size <= largest && is_sequential(data, size)) {
    row.kept = Kept::verbatim;
    out.insert(out.end(), data, data + size);
  } else {
    encode(row, out);
  }
  return row;
}

JpegRow MaskToPng::convert_pixels(const ConstImageView& numbers, std::vector<uint8_t>& out) {
  if (numbers.channels != row_.decode.channels || numbers.pixel_stride != numbers.channels) {
    throw Error(Reason::value, "expected numbers of " + std::to_string(row_.decode.channels) + " bytes, found " +
                                   std::to_string(numbers.channels));
  }
  if (numbers.width < 1 || numbers.height < 1) throw Error(Reason::shape, "the mask has no pixels");
  const JpegRow row = begin(numbers.width, numbers.height);
  const IntBox box = resizer_.needed();
  for (int y = box.y0; y < box.y1; ++y) resizer_.push(numbers.row(y) + ptrdiff_t{box.x0} * numbers.channels);
  encode(row, out);
  return row;
}

// Starts the resizer for a mask of this size.
JpegRow MaskToPng::begin(int width, int height) {
  JpegRow row;
  row.source_width = width;
  row.source_height = height;
  RowSpec spec = row_;
  if (std::min(width, height) <= spec.resize_h) spec.resize_h = 0;
  const RowGeometry to = row_geometry(spec, width, height);
  row.kept = to.part.size() == ImageSize{height, width} ? Kept::encoded : Kept::shrunk;
  row.width = to.width;
  row.height = to.height;
  const int bytes = row_.decode.channels;
  give_back_if_large(numbers_);
  numbers_.resize(static_cast<size_t>(to.width) * static_cast<size_t>(to.height) * static_cast<size_t>(bytes));
  resizer_.begin(resize_spec(row_, width, height, to), ImageView::hwc(numbers_.data(), to.height, to.width, bytes));
  return row;
}

void MaskToPng::encode(const JpegRow& row, std::vector<uint8_t>& out) {
  if (!resizer_.done()) throw Error(Reason::internal, "the decoder returned fewer rows than the resizer needs");
  const ConstImageView numbers = ConstImageView::hwc(numbers_.data(), row.height, row.width, row_.decode.channels);
  const std::string_view file = encoder_.encode(numbers);
  out.insert(out.end(), file.begin(), file.end());
}

}  // namespace lds
