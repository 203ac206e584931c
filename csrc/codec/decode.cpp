#include "codec/decode.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "codec/exif.h"
#include "common/error.h"

namespace lds {
namespace {

// EXIF orientations 5-8 exchange rows and columns.
bool transposes(int orientation) noexcept { return orientation >= 5; }

// The position in the stored image of the oriented pixel (x, y). `width` and `height` are those of the stored image.
struct StoredPixel {
  int x, y;
};
StoredPixel stored_pixel(int orientation, int x, int y, int width, int height) noexcept {
  switch (orientation) {
    case 2: return {width - 1 - x, y};
    case 3: return {width - 1 - x, height - 1 - y};
    case 4: return {x, height - 1 - y};
    case 5: return {y, x};
    case 6: return {y, height - 1 - x};
    case 7: return {width - 1 - y, height - 1 - x};
    case 8: return {width - 1 - y, x};
    default: return {x, y};
  }
}

IntBox stored_box(int orientation, const IntBox& box, int width, int height) noexcept {
  const StoredPixel a = stored_pixel(orientation, box.x0, box.y0, width, height);
  const StoredPixel b = stored_pixel(orientation, box.x1 - 1, box.y1 - 1, width, height);
  return {std::min(a.x, b.x), std::min(a.y, b.y), std::max(a.x, b.x) + 1, std::max(a.y, b.y) + 1};
}

template <int kChannels>
void gather_row(const uint8_t* from, ptrdiff_t step, uint8_t* to, int count) noexcept {
  for (int i = 0; i < count; ++i, from += step, to += kChannels) {
    for (int c = 0; c < kChannels; ++c) to[c] = from[c];
  }
}

}  // namespace

Format sniff_format(const uint8_t* data, size_t size) noexcept {
  if (size >= 3 && std::memcmp(data, "\xFF\xD8\xFF", 3) == 0) return Format::jpeg;
  if (size >= 8 && std::memcmp(data, "\x89PNG\r\n\x1A\n", 8) == 0) return Format::png;
  if (size >= 12 && std::memcmp(data, "RIFF", 4) == 0 && std::memcmp(data + 8, "WEBP", 4) == 0) return Format::webp;
  return Format::unknown;
}

const char* format_name(Format format) noexcept {
  switch (format) {
    case Format::jpeg: return "jpeg";
    case Format::png: return "png";
    case Format::webp: return "webp";
    case Format::unknown: break;
  }
  return "unknown";
}

void Decoder::RowBuffer::begin(size_t row_bytes, int rows) {
  row_bytes_ = row_bytes;
  pixels_.resize(std::max(pixels_.size(), row_bytes * static_cast<size_t>(rows)));
  next_ = pixels_.data();
}

void Decoder::RowBuffer::push(const uint8_t* row) {
  std::memcpy(next_, row, row_bytes_);
  next_ += row_bytes_;
}

const uint8_t* Decoder::RowBuffer::at(int x, int y, int channels) const noexcept {
  return pixels_.data() + static_cast<size_t>(y) * row_bytes_ + static_cast<size_t>(x) * static_cast<size_t>(channels);
}

ImageInfo Decoder::info() const noexcept {
  const bool transposed = transposes(orientation_);
  return {format_, transposed ? height_ : width_, transposed ? width_ : height_, orientation_};
}

template <class Codec>
void Decoder::set_size(const Codec& codec) {
  width_ = codec.width();
  height_ = codec.height();
}

void Decoder::read_stored(const IntBox& box, RowSink& sink) {
  switch (format_) {
    case Format::jpeg: return jpeg_.read(box, sink);
    case Format::png: return png_.read(box, sink);
    case Format::webp: return webp_.read(box, sink);
    case Format::unknown: break;
  }
}

void Decoder::read_oriented(const IntBox& box, RowSink& sink) {
  const IntBox stored = stored_box(orientation_, box, width_, height_);
  buffer_.begin(static_cast<size_t>(stored.width()) * static_cast<size_t>(channels_), stored.height());
  read_stored(stored, buffer_);
  row_.resize(static_cast<size_t>(box.width()) * static_cast<size_t>(channels_));
  for (int y = box.y0; y < box.y1; ++y) {
    const StoredPixel first = stored_pixel(orientation_, box.x0, y, width_, height_);
    const StoredPixel second = stored_pixel(orientation_, box.x0 + 1, y, width_, height_);
    const uint8_t* from = buffer_.at(first.x - stored.x0, first.y - stored.y0, channels_);
    const ptrdiff_t step =
        ptrdiff_t{second.x - first.x} * channels_ + ptrdiff_t{second.y - first.y} * stored.width() * channels_;
    switch (channels_) {
      case 1: gather_row<1>(from, step, row_.data(), box.width()); break;
      case 2: gather_row<2>(from, step, row_.data(), box.width()); break;
      case 3: gather_row<3>(from, step, row_.data(), box.width()); break;
      default: gather_row<4>(from, step, row_.data(), box.width()); break;
    }
    sink.push(row_.data());
  }
}

void check_channels(const DecodeOptions& options) {
  const int channels = options.channels;
  if (options.mask ? channels == 1 || channels == 2 || channels == 4 : channels == 1 || channels == 3) return;
  throw Error(Reason::value,
              std::string(options.mask ? "a mask has 1, 2 or 4 bytes a pixel" : "channels must be 1 or 3") +
                  ", found " + std::to_string(channels));
}

ImageInfo Decoder::open(const uint8_t* data, size_t size, const DecodeOptions& options) {
  opened_ = false;
  png_.give_back_large_buffers();
  webp_.give_back_large_buffers();
  buffer_.give_back_if_large();
  check_channels(options);
  if (size == 0) throw Error(Reason::truncated, "the file is empty");
  channels_ = options.channels;
  format_ = sniff_format(data, size);
  int orientation = 1;
  switch (format_) {
    case Format::jpeg:
      jpeg_.open(data, size, options);
      set_size(jpeg_);
      if (options.exif_orientation) orientation = jpeg_orientation(data, size);
      break;
    case Format::png:
      png_.open(data, size, options);
      set_size(png_);
      orientation = png_.orientation();
      break;
    case Format::webp:
      webp_.open(data, size, options);
      set_size(webp_);
      orientation = webp_.orientation();
      break;
    case Format::unknown: throw Error(Reason::unsupported, "not a JPEG, PNG or WebP file, by its first bytes");
  }
  if (options.mask && format_ != Format::png) {
    throw Error(Reason::unsupported, std::string("a mask is expected in a PNG file, found ") + format_name(format_));
  }
  orientation_ = options.exif_orientation ? orientation : 1;
  opened_ = true;
  return info();
}

ImageInfo Decoder::set_draft(int min_width, int min_height) {
  if (!opened_) throw Error(Reason::internal, "set_draft() before open()");
  if (format_ == Format::jpeg) {
    if (transposes(orientation_)) std::swap(min_width, min_height);
    jpeg_.set_draft(min_width, min_height);
    set_size(jpeg_);
  }
  return info();
}

ImageInfo Decoder::set_scale(int scale) {
  if (!opened_ || format_ != Format::jpeg) throw Error(Reason::internal, "set_scale() without a JPEG");
  jpeg_.set_scale(scale);
  set_size(jpeg_);
  return info();
}

ImageInfo Decoder::set_orientation(int orientation) {
  if (!opened_ || orientation < 1 || orientation > 8) throw Error(Reason::internal, "set_orientation(): not possible");
  orientation_ = orientation;
  return info();
}

void Decoder::check_box(const IntBox& box) const {
  if (!opened_) throw Error(Reason::internal, "read() before open()");
  const ImageInfo image = this->info();
  if (box.x0 < 0 || box.y0 < 0 || box.x1 > image.width || box.y1 > image.height || box.x0 >= box.x1 ||
      box.y0 >= box.y1) {
    throw Error(Reason::value, "expected a box of at least one pixel inside " + std::to_string(image.width) + " x " +
                                   std::to_string(image.height) + " pixels, found (" + std::to_string(box.x0) + ", " +
                                   std::to_string(box.y0) + ", " + std::to_string(box.x1) + ", " +
                                   std::to_string(box.y1) + ")");
  }
}

void Decoder::read(const IntBox& box, RowSink& sink) {
  check_box(box);
  opened_ = false;
  if (orientation_ == 1) {
    read_stored(box, sink);
  } else {
    read_oriented(box, sink);
  }
}

}  // namespace lds
