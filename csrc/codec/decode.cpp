#include "codec/decode.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "codec/exif.h"
#include "codec/jpeg.h"
#include "codec/png.h"
#include "codec/webp.h"
#include "common/error.h"

namespace lds {
namespace {

// EXIF orientations 5-8 exchange rows and columns.
bool transposes(int orientation) noexcept { return orientation >= 5; }

// The column and row of the stored image that the oriented pixel (x, y) comes from; width and height are those of the
// stored image.
struct Source {
  int x, y;
};
Source source_of(int orientation, int x, int y, int width, int height) noexcept {
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
  const Source a = source_of(orientation, box.x0, box.y0, width, height);
  const Source b = source_of(orientation, box.x1 - 1, box.y1 - 1, width, height);
  return {std::min(a.x, b.x), std::min(a.y, b.y), std::max(a.x, b.x) + 1, std::max(a.y, b.y) + 1};
}

// Keeps the rows of a box.
class Buffer : public RowSink {
 public:
  void begin(size_t row_bytes, int rows) {
    row_bytes_ = row_bytes;
    pixels_.resize(std::max(pixels_.size(), row_bytes * static_cast<size_t>(rows)));
    next_ = pixels_.data();
  }
  void push(const uint8_t* row) override {
    std::memcpy(next_, row, row_bytes_);
    next_ += row_bytes_;
  }
  const uint8_t* at(int x, int y, int channels) const noexcept {
    return pixels_.data() + static_cast<size_t>(y) * row_bytes_ +
           static_cast<size_t>(x) * static_cast<size_t>(channels);
  }

 private:
  std::vector<uint8_t> pixels_;
  uint8_t* next_ = nullptr;
  size_t row_bytes_ = 0;
};

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

struct Decoder::State {
  JpegDecoder jpeg;
  PngDecoder png;
  WebpDecoder webp;
  Format format = Format::unknown;
  int orientation = 1, channels = 3;
  int width = 0, height = 0;  // as stored
  bool opened = false;
  Buffer buffer;
  std::vector<uint8_t> row;

  ImageInfo info() const noexcept {
    const bool turned = transposes(orientation);
    return {format, turned ? height : width, turned ? width : height, orientation};
  }

  template <class Codec>
  void take_size(const Codec& codec) {
    width = codec.width();
    height = codec.height();
  }

  void read_stored(const IntBox& box, RowSink& sink) {
    switch (format) {
      case Format::jpeg: return jpeg.read(box, sink);
      case Format::png: return png.read(box, sink);
      case Format::webp: return webp.read(box, sink);
      case Format::unknown: break;
    }
  }

  void read_turned(const IntBox& box, RowSink& sink) {
    const IntBox stored = stored_box(orientation, box, width, height);
    buffer.begin(static_cast<size_t>(stored.width()) * static_cast<size_t>(channels), stored.height());
    read_stored(stored, buffer);
    row.resize(static_cast<size_t>(box.width()) * static_cast<size_t>(channels));
    for (int y = box.y0; y < box.y1; ++y) {
      const Source first = source_of(orientation, box.x0, y, width, height);
      const Source second = source_of(orientation, box.x0 + 1, y, width, height);
      const uint8_t* from = buffer.at(first.x - stored.x0, first.y - stored.y0, channels);
      const ptrdiff_t step =
          ptrdiff_t{second.x - first.x} * channels + ptrdiff_t{second.y - first.y} * stored.width() * channels;
      if (channels == 1) {
        gather_row<1>(from, step, row.data(), box.width());
      } else {
        gather_row<3>(from, step, row.data(), box.width());
      }
      sink.push(row.data());
    }
  }
};

Decoder::Decoder() : state_(std::make_unique<State>()) {}
Decoder::~Decoder() = default;

ImageInfo Decoder::open(const uint8_t* data, size_t size, const DecodeOptions& options) {
  State& s = *state_;
  s.opened = false;
  if (options.channels != 1 && options.channels != 3) {
    throw Error(Reason::value, "channels must be 1 or 3, found " + std::to_string(options.channels));
  }
  if (size == 0) throw Error(Reason::truncated, "the file is empty");
  s.channels = options.channels;
  s.format = sniff_format(data, size);
  int orientation = 1;
  switch (s.format) {
    case Format::jpeg:
      s.jpeg.open(data, size, options);
      s.take_size(s.jpeg);
      if (options.exif_orientation) orientation = jpeg_orientation(data, size);
      break;
    case Format::png:
      s.png.open(data, size, options);
      s.take_size(s.png);
      orientation = s.png.orientation();
      break;
    case Format::webp:
      s.webp.open(data, size, options);
      s.take_size(s.webp);
      orientation = s.webp.orientation();
      break;
    case Format::unknown: throw Error(Reason::unsupported, "not a JPEG, PNG or WebP file, by its first bytes");
  }
  s.orientation = options.exif_orientation ? orientation : 1;
  s.opened = true;
  return s.info();
}

ImageInfo Decoder::set_draft(int min_width, int min_height) {
  State& s = *state_;
  if (!s.opened) throw Error(Reason::internal, "set_draft() before open()");
  if (s.format == Format::jpeg) {
    if (transposes(s.orientation)) std::swap(min_width, min_height);
    s.jpeg.set_draft(min_width, min_height);
    s.take_size(s.jpeg);
  }
  return s.info();
}

void Decoder::check_box(const IntBox& box) const {
  const State& s = *state_;
  if (!s.opened) throw Error(Reason::internal, "read() before open()");
  const ImageInfo info = s.info();
  if (box.x0 < 0 || box.y0 < 0 || box.x1 > info.width || box.y1 > info.height || box.x0 >= box.x1 || box.y0 >= box.y1) {
    throw Error(Reason::value, "expected a box of at least one pixel inside " + std::to_string(info.width) + " x " +
                                   std::to_string(info.height) + " pixels, found (" + std::to_string(box.x0) + ", " +
                                   std::to_string(box.y0) + ", " + std::to_string(box.x1) + ", " +
                                   std::to_string(box.y1) + ")");
  }
}

void Decoder::read(const IntBox& box, RowSink& sink) {
  check_box(box);
  State& s = *state_;
  s.opened = false;
  if (s.orientation == 1) {
    s.read_stored(box, sink);
  } else {
    s.read_turned(box, sink);
  }
}

}  // namespace lds
