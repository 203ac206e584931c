#include "packing/picture_to_png.h"

#include <string>
#include <string_view>

#include "common/error.h"
#include "resize/resizer_sink.h"

namespace lds {

PictureToPng::PictureToPng(const RowSpec& row) : row_(row), filter_(row.filter) {
  if (!row.decode.mask || row.decode.channels > 2) throw Error(Reason::value, "expected masks of 8 or 16 bits a pixel");
  if (row.resize_h < 0 || row.resize_w != 0 || row.crop_h != 0 || row.crop_w != 0) {
    throw Error(Reason::value, "a PNG row is neither cropped nor resized to a width and a height");
  }
  row_.filter = Filter::nearest;
}

JpegRow PictureToPng::convert(const uint8_t* data, size_t size, std::vector<uint8_t>& out) {
  const ImageInfo info = decoder_.open(data, size, row_.decode);
  const JpegRow row = begin_row(row_, info.width, info.height, resizer_, numbers_);
  ResizerSink sink(resizer_, stop_);
  decoder_.read(resizer_.needed(), sink);
  if (!resizer_.done()) throw Error(Reason::internal, "the decoder returned fewer rows than the resizer needs");
  encode(row, out);
  return row;
}

JpegRow PictureToPng::convert_pixels(const ConstImageView& numbers, std::vector<uint8_t>& out) {
  if (numbers.channels != row_.decode.channels || numbers.pixel_stride != numbers.channels) {
    throw Error(Reason::value, "expected numbers of " + std::to_string(row_.decode.channels) + " bytes, found " +
                                   std::to_string(numbers.channels));
  }
  if (numbers.width < 1 || numbers.height < 1) throw Error(Reason::shape, "the mask has no pixels");
  const JpegRow row = begin_row(row_, numbers.width, numbers.height, resizer_, numbers_);
  const IntBox box = resizer_.needed();
  for (int y = box.y0; y < box.y1; ++y) resizer_.push(numbers.row(y) + ptrdiff_t{box.x0} * numbers.channels);
  if (!resizer_.done()) throw Error(Reason::internal, "the resizer needs more rows than the picture has");
  encode(row, out);
  return row;
}

JpegRow PictureToPng::convert_values(const ConstImageView& values, PixelType type, std::vector<uint8_t>& out) {
  const auto bytes = static_cast<int>(pixel_bytes(type));
  const bool is_number = type == PixelType::uint8 || type == PixelType::uint16;
  if (values.channels != 1 || !is_number || bytes != row_.decode.channels) {
    throw Error(Reason::value, "a PNG row has one channel of uint8 or uint16");
  }
  if (values.width < 1 || values.height < 1) throw Error(Reason::shape, "the picture has no pixels");
  const JpegRow row = sized_row(row_, values.width, values.height);
  if (row.kept != Kept::shrunk || filter_ == Filter::nearest) {
    return convert_pixels({values.data, values.width, values.height, bytes, values.row_stride, bytes, 1}, out);
  }
  ResizeSpec spec =
      resize_spec(row_, values.width, values.height, {row.width, row.height, {0, 0, row.width, row.height}});
  spec.channels = 1;
  spec.filter = filter_;
  const int64_t n = int64_t{row.width} * row.height;
  resized_.resize(static_cast<size_t>(n));
  numbers_.resize(static_cast<size_t>(n * bytes));
  float_resizer_.resize(values, type, spec, resized_.data());
  value_kernels().narrow(resized_.data(), type, n, numbers_.data());
  encode(row, out);
  return row;
}

// `numbers_`, as large as the row.
void PictureToPng::encode(const JpegRow& row, std::vector<uint8_t>& out) {
  const ConstImageView numbers = ConstImageView::hwc(numbers_.data(), row.height, row.width, row_.decode.channels);
  const std::string_view file = encoder_.encode(numbers);
  out.insert(out.end(), file.begin(), file.end());
}

}  // namespace lds
