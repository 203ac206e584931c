#include "packing/image_to_jpeg.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "codec/exif.h"
#include "common/error.h"
#include "common/kept_buffer.h"
#include "resize/resizer_sink.h"

namespace lds {
namespace {

// Larger metadata are not worth their bytes: previews, colour profiles, editing histories.
constexpr size_t kMaxMetadata = size_t{16} << 10;
constexpr size_t kSmallMetadata = size_t{1} << 10;
constexpr size_t kMetadataShare = 8;
constexpr int kMaxPsnr = 100'000;  // of equal images

bool has_small_metadata(const JpegStructure& file) noexcept {
  return file.metadata <= std::min(kMaxMetadata, std::max(kSmallMetadata, file.end / kMetadataShare));
}

// Leaves one of three equal channels.
bool to_gray_if_equal(uint8_t* pixels, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* pixel = pixels + 3 * i;
    if (pixel[0] != pixel[1] || pixel[0] != pixel[2]) return false;
  }
  for (int64_t i = 0; i < count; ++i) pixels[i] = pixels[3 * i];
  return true;
}

// Sums the squared differences to the rows of an image.
class DifferenceSink : public RowSink {
 public:
  explicit DifferenceSink(const ConstImageView& expected) : expected_(expected) {}
  void push(const uint8_t* row) override {
    const uint8_t* expected = expected_.row(y_++);
    const int values = expected_.width * expected_.channels;
    for (int low = 0; low < values; low += kBlock) {
      int32_t sum = 0;
      for (int i = low; i < std::min(values, low + kBlock); ++i) {
        const int difference = row[i] - expected[i];
        sum += difference * difference;
      }
      squares += static_cast<uint64_t>(sum);
    }
  }
  uint64_t squares = 0;

 private:
  static constexpr int kBlock = 4096;  // whose sum fits into 32 bits
  ConstImageView expected_;
  int y_ = 0;
};

void append(std::string_view file, std::vector<uint8_t>& out) { out.insert(out.end(), file.begin(), file.end()); }

}  // namespace

ImageToJpeg::ImageToJpeg(const RowSpec& row, const JpegSpec& spec) : row_(row), spec_(spec) {
  if (spec.quality < 1 || spec.quality > 100) {
    throw Error(Reason::value, "quality must be from 1 to 100, found " + std::to_string(spec.quality));
  }
  if (row.decode.channels != 1 && row.decode.channels != 3) {
    throw Error(Reason::value, "channels must be 1 or 3, found " + std::to_string(row.decode.channels));
  }
  if (row.resize_h < 0 || row.resize_w != 0 || row.crop_h != 0 || row.crop_w != 0 || row.scaled) {
    throw Error(Reason::value,
                "a JPEG row is neither cropped, nor resized to a width and a height, nor decoded scaled");
  }
}

bool fits(const RowSpec& row, int width, int height) noexcept {
  return row.resize_h == 0 || std::min(width, height) <= row.resize_h;
}

JpegRow sized_row(const RowSpec& spec, int width, int height) {
  JpegRow row;
  row.source_width = width;
  row.source_height = height;
  RowSpec as_it_is = spec;
  if (fits(spec, width, height)) as_it_is.resize_h = 0;
  const RowGeometry to = row_geometry(as_it_is, width, height);
  row.kept = to.part.size() == ImageSize{height, width} ? Kept::encoded : Kept::shrunk;
  row.width = to.width;
  row.height = to.height;
  return row;
}

JpegRow begin_row(const RowSpec& spec, int width, int height, StreamingResizer& resizer, std::vector<uint8_t>& pixels) {
  const JpegRow row = sized_row(spec, width, height);
  const RowGeometry to{row.width, row.height, {0, 0, row.width, row.height}};
  const int channels = spec.decode.channels;
  give_back_if_large(pixels);
  pixels.resize(static_cast<size_t>(to.width) * static_cast<size_t>(to.height) * static_cast<size_t>(channels));
  resizer.begin(resize_spec(spec, width, height, to), ImageView::hwc(pixels.data(), to.height, to.width, channels));
  return row;
}

JpegRow ImageToJpeg::convert(const uint8_t* data, size_t size, bool measure, std::vector<uint8_t>& out) {
  if (sniff_format(data, size) == Format::jpeg) {
    if (const std::optional<JpegRow> row = keep(data, size, out)) return *row;
  }
  const ImageInfo info = decoder_.open(data, size, row_.decode);
  JpegRow row = begin_row(row_, info.width, info.height, resizer_, pixels_);
  ResizerSink sink(resizer_, stop_);
  decoder_.read(resizer_.needed(), sink);
  if (!resizer_.done()) throw Error(Reason::internal, "the decoder returned fewer rows than the resizer needs");
  encode(row, measure, out);
  return row;
}

JpegRow ImageToJpeg::convert_pixels(const ConstImageView& pixels, bool measure, std::vector<uint8_t>& out) {
  if (pixels.channels != row_.decode.channels || pixels.pixel_stride != pixels.channels) {
    throw Error(Reason::value, "expected interleaved pixels of " + std::to_string(row_.decode.channels) +
                                   " channels, found " + std::to_string(pixels.channels));
  }
  if (pixels.width < 1 || pixels.height < 1) throw Error(Reason::shape, "the image has no pixels");
  JpegRow row = begin_row(row_, pixels.width, pixels.height, resizer_, pixels_);
  const IntBox box = resizer_.needed();
  for (int y = box.y0; y < box.y1; ++y) resizer_.push(pixels.row(y) + ptrdiff_t{box.x0} * pixels.channels);
  if (!resizer_.done()) throw Error(Reason::internal, "the resizer needs more rows than the image has");
  encode(row, measure, out);
  return row;
}

// The file itself, or its coefficients; nothing where it must be decoded.
std::optional<JpegRow> ImageToJpeg::keep(const uint8_t* data, size_t size, std::vector<uint8_t>& out) {
  const JpegStructure file = inspect_jpeg(data, size);
  const auto pixels = static_cast<uint64_t>(file.width) * static_cast<uint64_t>(file.height);
  const bool grey_or_colour = file.components == 1 || file.components == 3;
  // what is too large is left to the decoder, whose error says so
  if (!grey_or_colour || pixels > row_.decode.max_pixels || !fits(row_, file.width, file.height)) return {};
  JpegRow row;
  row.orientation = row_.decode.exif_orientation ? jpeg_orientation(data, size) : 1;
  const bool turned = row.orientation >= 5;
  row.source_width = row.width = turned ? file.height : file.width;
  row.source_height = row.height = turned ? file.width : file.height;
  if (!file.plain || !has_small_metadata(file) || (spec_.restarts && !file.row_restarts)) {
    return transcode(data, size, file.progressive, row, out);
  }
  append({reinterpret_cast<const char*>(data), file.end}, out);
  return row;
}

// Whether a file without such a copy is damaged is left to the decoder.
std::optional<JpegRow> ImageToJpeg::transcode(const uint8_t* data, size_t size, bool progressive, JpegRow row,
                                              std::vector<uint8_t>& out) {
  try {
    if (!progressive) check_data(data, size);
    append(transcoder_.transcode(data, size, row.orientation, row_.decode.max_pixels), out);
  } catch (const Error& error) {
    if (error.reason() == Reason::too_large) throw;
    return {};
  }
  row.kept = Kept::transcoded;
  return row;
}

// libjpeg takes invalid codes of a sequential file for zeros when it reads coefficients: our own reader does not.
void ImageToJpeg::check_data(const uint8_t* data, size_t size) {
  struct Drop : RowSink {
    void push(const uint8_t*) override {}
  } drop;
  DecodeOptions options = row_.decode;
  options.exif_orientation = false;
  options.keep_truncated = false;
  const ImageInfo info = decoder_.open(data, size, options);
  decoder_.read({0, 0, info.width, info.height}, drop);
}

void ImageToJpeg::encode(JpegRow& row, bool measure, std::vector<uint8_t>& out) {
  const bool gray = row_.decode.channels == 1 || to_gray_if_equal(pixels_.data(), int64_t{row.width} * row.height);
  const ConstImageView pixels = ImageView::hwc(pixels_.data(), row.height, row.width, gray ? 1 : 3);
  const std::string_view file = encoder_.encode(pixels, spec_.quality);
  if (measure) row.psnr = psnr(file, pixels);
  append(file, out);
}

int ImageToJpeg::psnr(std::string_view file, const ConstImageView& pixels) {
  DecodeOptions options;
  options.channels = pixels.channels;
  options.max_pixels = row_.decode.max_pixels;
  decoder_.open(reinterpret_cast<const uint8_t*>(file.data()), file.size(), options);
  DifferenceSink difference(pixels);
  decoder_.read({0, 0, pixels.width, pixels.height}, difference);
  if (difference.squares == 0) return kMaxPsnr;
  const double mean = static_cast<double>(difference.squares) / pixels.width / pixels.height / pixels.channels;
  return std::min(kMaxPsnr, static_cast<int>(std::lround(10'000 * std::log10(255 * 255 / mean))));
}

}  // namespace lds
