#include "packing/image_to_row.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "common/error.h"

namespace lds {
namespace {

// Where a centre crop of `wanted` pixels lies along an axis of `size` pixels, as torchvision's center_crop: it starts
// at the rounded (half to even) half of what is left over, or, when the image is smaller, after `pad` zeros.
struct AxisCrop {
  int begin, end, pad, out;
};

AxisCrop center_crop(int size, int wanted) noexcept {
  if (wanted == 0) return {0, size, 0, size};
  if (wanted > size) return {0, size, (wanted - size) / 2, wanted};
  const int rest = size - wanted, half = rest / 2;
  const int begin = half + (rest % 2 != 0 && half % 2 != 0 ? 1 : 0);
  return {begin, begin + wanted, 0, wanted};
}

// The resized image, and the part of it that the row shows.
struct Geometry {
  int width, height;
  AxisCrop x, y;
};

Geometry geometry(const RowSpec& spec, int width, int height) {
  int64_t w = width, h = height;
  if (spec.resize_h > 0 && spec.resize_w > 0) {
    w = spec.resize_w;
    h = spec.resize_h;
  } else if (spec.resize_h > 0) {
    // int(size * long / short) in Python's arithmetic
    const int64_t size = spec.resize_h;
    if (width <= height) {
      w = size;
      h = static_cast<int64_t>(static_cast<double>(size * height) / width);
    } else {
      h = size;
      w = static_cast<int64_t>(static_cast<double>(size * width) / height);
    }
  }
  if (std::max(w, h) > INT32_MAX / 4) throw Error(Reason::too_large, "the resized image would be too large");
  const int iw = static_cast<int>(w), ih = static_cast<int>(h);
  return {iw, ih, center_crop(iw, spec.crop_w), center_crop(ih, spec.crop_h)};
}

std::string size_words(int width, int height) {
  return std::to_string(height) + " x " + std::to_string(width) + " (height x width)";
}

class ResizerSink : public RowSink {
 public:
  ResizerSink(StreamingResizer& resizer, const std::atomic<bool>* stop) : resizer_(resizer), stop_(stop) {}
  void push(const uint8_t* row) override {
    if (stop_ != nullptr && stop_->load(std::memory_order_relaxed)) throw Error(Reason::cancelled, "cancelled");
    resizer_.push(row);
  }

 private:
  StreamingResizer& resizer_;
  const std::atomic<bool>* stop_;
};

void check(const RowSpec& spec) {
  const auto expect = [](bool ok, const char* message) {
    if (!ok) throw Error(Reason::value, message);
  };
  expect(spec.decode.channels == 1 || spec.decode.channels == 3, "channels must be 1 or 3");
  expect(spec.resize_h >= 0 && spec.resize_w >= 0, "resize must not be negative");
  expect(spec.resize_h > 0 || spec.resize_w == 0, "resize needs a height when it has a width");
  expect(spec.crop_h >= 0 && spec.crop_w >= 0, "crop must not be negative");
  expect(spec.out_h > 0 && spec.out_w > 0, "the row's height and width must be at least 1");
}

}  // namespace

RowSize row_size(const RowSpec& spec, int width, int height) {
  const Geometry to = geometry(spec, width, height);
  return {to.y.out, to.x.out};
}

struct ImageToRow::State {
  RowSpec spec;
  Decoder decoder;
  StreamingResizer resizer;
  const std::atomic<bool>* stop = nullptr;

  // Prepares the resizer for a source of width x height pixels, to be resized as `to` says.
  void begin(int width, int height, const Geometry& to, uint8_t* out) {
    const int channels = spec.decode.channels;
    ResizeSpec resize;
    resize.in_width = width;
    resize.in_height = height;
    resize.channels = channels;
    resize.box[2] = static_cast<float>(width);
    resize.box[3] = static_cast<float>(height);
    resize.out_width = to.width;
    resize.out_height = to.height;
    resize.crop = {to.x.begin, to.y.begin, to.x.end, to.y.end};
    resize.filter = spec.filter;
    resize.antialias = spec.antialias;

    ImageView view = spec.planar ? ImageView::chw(out, spec.out_h, spec.out_w, channels)
                                 : ImageView::hwc(out, spec.out_h, spec.out_w, channels);
    view.data += to.y.pad * view.row_stride + to.x.pad * view.pixel_stride;
    view.width = resize.crop.width();
    view.height = resize.crop.height();
    if (view.width < spec.out_w || view.height < spec.out_h) {
      std::memset(out, 0, size_t(spec.out_h) * size_t(spec.out_w) * size_t(channels));
    }
    resizer.begin(resize, view);
  }

  Geometry fitting_geometry(int width, int height) const {
    const Geometry to = geometry(spec, width, height);
    if (to.x.out != spec.out_w || to.y.out != spec.out_h) {
      throw Error(Reason::shape, "expected an image that ends as " + size_words(spec.out_w, spec.out_h) + ", found " +
                                     size_words(to.x.out, to.y.out) + " from " + size_words(width, height));
    }
    return to;
  }
};

ImageToRow::ImageToRow(const RowSpec& spec) {
  check(spec);
  state_ = std::make_unique<State>();
  state_->spec = spec;
}
ImageToRow::~ImageToRow() = default;

void ImageToRow::stop_when(const std::atomic<bool>* flag) noexcept { state_->stop = flag; }

RowResult ImageToRow::convert(const uint8_t* data, size_t size, uint8_t* out) {
  State& s = *state_;
  ImageInfo info = s.decoder.open(data, size, s.spec.decode);
  const RowResult result{info.width, info.height, info.format};
  const Geometry to = s.fitting_geometry(info.width, info.height);
  if (s.spec.scaled && s.spec.resize_h > 0) info = s.decoder.set_draft(to.width, to.height);
  s.begin(info.width, info.height, to, out);
  ResizerSink sink(s.resizer, s.stop);
  s.decoder.read(s.resizer.needed(), sink);
  if (!s.resizer.done()) throw Error(Reason::internal, "the decoder gave fewer rows than the resizer needs");
  return result;
}

void ImageToRow::decode_only(const uint8_t* data, size_t size, bool whole, uint8_t* out) {
  struct Drop : RowSink {
    void push(const uint8_t*) override {}
  } drop;
  State& s = *state_;
  DecodeOptions options = s.spec.decode;
  options.huffman_reader = HuffmanReader::libjpeg;
  ImageInfo info = s.decoder.open(data, size, options);
  if (whole) return s.decoder.read({0, 0, info.width, info.height}, drop);
  const Geometry to = s.fitting_geometry(info.width, info.height);
  if (s.spec.scaled && s.spec.resize_h > 0) info = s.decoder.set_draft(to.width, to.height);
  s.begin(info.width, info.height, to, out);
  s.decoder.read(s.resizer.needed(), drop);
}

RowResult ImageToRow::convert_pixels(const ConstImageView& pixels, uint8_t* out) {
  State& s = *state_;
  if (pixels.channels != s.spec.decode.channels || pixels.pixel_stride != pixels.channels) {
    throw Error(Reason::value, "expected interleaved pixels of " + std::to_string(s.spec.decode.channels) +
                                   " channels, found " + std::to_string(pixels.channels));
  }
  if (pixels.width < 1 || pixels.height < 1) throw Error(Reason::shape, "the image has no pixels");
  const Geometry to = s.fitting_geometry(pixels.width, pixels.height);
  s.begin(pixels.width, pixels.height, to, out);
  const IntBox box = s.resizer.needed();
  for (int y = box.y0; y < box.y1; ++y) s.resizer.push(pixels.row(y) + ptrdiff_t{box.x0} * pixels.channels);
  if (!s.resizer.done()) throw Error(Reason::internal, "the resizer needs more rows than the image has");
  return {pixels.width, pixels.height, Format::unknown};
}

}  // namespace lds
