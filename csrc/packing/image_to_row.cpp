#include "packing/image_to_row.h"

#include <algorithm>
#include <string>

#include "common/error.h"
#include "resize/resizer_sink.h"
#include "transform/geometry.h"

namespace lds {
namespace {

std::string size_text(int64_t width, int64_t height) {
  return std::to_string(height) + " x " + std::to_string(width) + " (height x width)";
}

// Where torchvision's center_crop starts: at half of the difference, rounded half to even.
int center_crop(int size, int crop) noexcept {
  const int rest = size - crop, half = rest / 2;
  return half + (rest % 2 != 0 && half % 2 != 0 ? 1 : 0);
}

}  // namespace

void check(const RowSpec& spec) {
  const auto check_size = [](bool ok, const char* message, int height, int width) {
    if (!ok) throw Error(Reason::value, message + std::string(", found ") + size_text(width, height));
  };
  check_size(spec.resize_h >= 0 && spec.resize_w >= 0, "resize must not be negative", spec.resize_h, spec.resize_w);
  check_size(spec.resize_h > 0 || spec.resize_w == 0, "resize with a width needs a height", spec.resize_h,
             spec.resize_w);
  check_size(spec.crop_h >= 0 && spec.crop_w >= 0, "crop must not be negative", spec.crop_h, spec.crop_w);
  check_size((spec.crop_h == 0) == (spec.crop_w == 0), "crop needs a height and a width, or neither", spec.crop_h,
             spec.crop_w);
  check_size(spec.out_h > 0 && spec.out_w > 0, "a row must be at least 1 x 1", spec.out_h, spec.out_w);
}

RowGeometry row_geometry(const RowSpec& spec, int width, int height) {
  const auto [ih, iw] = resized_size({spec.resize_h, spec.resize_w}, {height, width});
  if (spec.crop_h == 0) return {iw, ih, {0, 0, iw, ih}};
  if (spec.crop_w > iw || spec.crop_h > ih) {
    throw Error(Reason::shape, "a crop of " + size_text(spec.crop_w, spec.crop_h) + " does not fit into " +
                                   size_text(iw, ih) + ", the " + (spec.resize_h > 0 ? "resized " : "") +
                                   "image's size");
  }
  const int x = center_crop(iw, spec.crop_w), y = center_crop(ih, spec.crop_h);
  return {iw, ih, {x, y, x + spec.crop_w, y + spec.crop_h}};
}

RowGeometry fitting_geometry(const RowSpec& spec, int width, int height) {
  const RowGeometry to = row_geometry(spec, width, height);
  if (to.part.width() != spec.out_w || to.part.height() != spec.out_h) {
    throw Error(Reason::shape, "expected an image that becomes " + size_text(spec.out_w, spec.out_h) + ", found " +
                                   size_text(to.part.width(), to.part.height()) + " from " + size_text(width, height));
  }
  return to;
}

ResizeSpec resize_spec(const RowSpec& spec, int width, int height, const RowGeometry& to) {
  ResizeSpec resize;
  resize.in_width = width;
  resize.in_height = height;
  resize.channels = spec.decode.channels;
  resize.box[2] = static_cast<float>(width);
  resize.box[3] = static_cast<float>(height);
  resize.out_width = to.width;
  resize.out_height = to.height;
  resize.crop = to.part;
  resize.filter = spec.filter;
  resize.antialias = spec.antialias;
  return resize;
}

ImageToRow::ImageToRow(const RowSpec& spec) : spec_(spec) {
  check_channels(spec.decode);
  check(spec);
}

// Starts the resizer for a source of width x height pixels.
void ImageToRow::begin(int width, int height, const RowGeometry& to, uint8_t* out) {
  const int channels = spec_.decode.channels;
  const ImageView view = spec_.planar ? ImageView::chw(out, spec_.out_h, spec_.out_w, channels)
                                      : ImageView::hwc(out, spec_.out_h, spec_.out_w, channels);
  resizer_.begin(resize_spec(spec_, width, height, to), view);
}

RowResult ImageToRow::convert(const uint8_t* data, size_t size, uint8_t* out) {
  ImageInfo info = decoder_.open(data, size, spec_.decode);
  const RowResult result{info.width, info.height};
  const RowGeometry to = fitting_geometry(spec_, info.width, info.height);
  if (spec_.scaled && spec_.resize_h > 0) info = decoder_.set_draft(to.width, to.height);
  begin(info.width, info.height, to, out);
  ResizerSink sink(resizer_, stop_);
  decoder_.read(resizer_.needed(), sink);
  if (!resizer_.done()) throw Error(Reason::internal, "the decoder returned fewer rows than the resizer needs");
  return result;
}

RowResult ImageToRow::convert_pixels(const ConstImageView& pixels, uint8_t* out) {
  if (pixels.channels != spec_.decode.channels || pixels.pixel_stride != pixels.channels) {
    throw Error(Reason::value, "expected interleaved pixels of " + std::to_string(spec_.decode.channels) +
                                   " channels, found " + std::to_string(pixels.channels));
  }
  if (pixels.width < 1 || pixels.height < 1) throw Error(Reason::shape, "the image has no pixels");
  begin(pixels.width, pixels.height, fitting_geometry(spec_, pixels.width, pixels.height), out);
  const IntBox box = resizer_.needed();
  for (int y = box.y0; y < box.y1; ++y) resizer_.push(pixels.row(y) + ptrdiff_t{box.x0} * pixels.channels);
  if (!resizer_.done()) throw Error(Reason::internal, "the resizer needs more rows than the image has");
  return {pixels.width, pixels.height};
}

void ImageToRow::decode_only(const uint8_t* data, size_t size, bool whole, uint8_t* out) {
  struct Drop : RowSink {
    void push(const uint8_t*) override {}
  } drop;
  DecodeOptions options = spec_.decode;
  options.huffman_reader = HuffmanReader::libjpeg;
  ImageInfo info = decoder_.open(data, size, options);
  if (whole) return decoder_.read({0, 0, info.width, info.height}, drop);
  const RowGeometry to = fitting_geometry(spec_, info.width, info.height);
  if (spec_.scaled && spec_.resize_h > 0) info = decoder_.set_draft(to.width, to.height);
  begin(info.width, info.height, to, out);
  decoder_.read(resizer_.needed(), drop);
}

}  // namespace lds
