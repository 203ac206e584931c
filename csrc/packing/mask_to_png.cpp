#include "packing/mask_to_png.h"

#include <string>
#include <string_view>

#include "common/error.h"
#include "resize/resizer_sink.h"

namespace lds {

MaskToPng::MaskToPng(const RowSpec& row) : row_(row) {
  if (!row.decode.mask || row.decode.channels > 2) throw Error(Reason::value, "expected masks of 8 or 16 bits a pixel");
  if (row.resize_h < 0 || row.resize_w != 0 || row.crop_h != 0 || row.crop_w != 0) {
    throw Error(Reason::value, "a PNG row is neither cropped nor resized to a width and a height");
  }
  row_.filter = Filter::nearest;
}

JpegRow MaskToPng::convert(const uint8_t* data, size_t size, std::vector<uint8_t>& out) {
  const ImageInfo info = decoder_.open(data, size, row_.decode);
  const JpegRow row = begin_row(row_, info.width, info.height, resizer_, numbers_);
  ResizerSink sink(resizer_, stop_);
  decoder_.read(resizer_.needed(), sink);
  encode(row, out);
  return row;
}

JpegRow MaskToPng::convert_pixels(const ConstImageView& numbers, std::vector<uint8_t>& out) {
  if (numbers.channels != row_.decode.channels || numbers.pixel_stride != numbers.channels) {
    throw Error(Reason::value, "expected numbers of " + std::to_string(row_.decode.channels) + " bytes, found " +
                                   std::to_string(numbers.channels));
  }
  if (numbers.width < 1 || numbers.height < 1) throw Error(Reason::shape, "the mask has no pixels");
  const JpegRow row = begin_row(row_, numbers.width, numbers.height, resizer_, numbers_);
  const IntBox box = resizer_.needed();
  for (int y = box.y0; y < box.y1; ++y) resizer_.push(numbers.row(y) + ptrdiff_t{box.x0} * numbers.channels);
  encode(row, out);
  return row;
}

void MaskToPng::encode(const JpegRow& row, std::vector<uint8_t>& out) {
  if (!resizer_.done()) throw Error(Reason::internal, "the decoder returned fewer rows than the resizer needs");
  const ConstImageView numbers = ConstImageView::hwc(numbers_.data(), row.height, row.width, row_.decode.channels);
  const std::string_view file = encoder_.encode(numbers);
  out.insert(out.end(), file.begin(), file.end());
}

}  // namespace lds
