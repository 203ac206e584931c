#include "codec/png.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "codec/exif.h"
#include "codec/gray.h"
#include "codec/png_handle.h"
#include "common/error.h"
#include "common/kept_buffer.h"

namespace lds {
namespace {

uint32_t big_endian32(const uint8_t* at) noexcept {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3];
}

constexpr std::string_view kRawExif("Raw profile type exif\0", 22);
constexpr std::string_view kXmp("XML:com.adobe.xmp\0", 18);

// The chunks that may hold the orientation.
struct Chunks {
  std::string_view exif;           // the data of an eXIf chunk, anywhere in the file
  std::string_view raw_exif, xmp;  // the last such text chunk before the pixels, with length and checksum
};

// Walks the chunks to detect a truncated file without decoding it. With `keep_truncated`, a file may end after its
// pixels begin: whether all are there is known when they are decoded.
Chunks walk_chunks(const uint8_t* data, size_t size, bool keep_truncated) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Chunks found;
  bool before_pixels = true;
  for (size_t at = 8; at + 12 <= size;) {
    const size_t length = big_endian32(data + at);
    const std::string_view type = bytes.substr(at + 4, 4);
    if (type == "IEND") return found;
    if (length > size - at - 12) break;
    const std::string_view body = bytes.substr(at + 8, length);
    if (type == "eXIf") found.exif = body;
    before_pixels = before_pixels && type != "IDAT";
    if (before_pixels && (type == "tEXt" || type == "zTXt" || type == "iTXt")) {
      if (body.substr(0, kRawExif.size()) == kRawExif) found.raw_exif = bytes.substr(at, length + 12);
      if (body.substr(0, kXmp.size()) == kXmp) found.xmp = bytes.substr(at, length + 12);
    }
    at += length + 12;
  }
  if (keep_truncated && !before_pixels) return found;
  throw Error(Reason::truncated, "PNG: the file ends early (" + std::to_string(size) + " bytes, no IEND chunk)");
}

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Parses ImageMagick's "Raw profile type exif" text: an empty line, a name, a length, then lines of hexadecimal digits.
std::string exif_of_raw_profile(std::string_view text) {
  std::string bytes;
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return bytes;
    text.remove_prefix(end + 1);
  }
  int high = -1;
  for (const char c : text) {
    const int digit = hex_digit(c);
    if (digit < 0) continue;
    if (high < 0) {
      high = digit;
    } else {
      bytes.push_back(static_cast<char>(high * 16 + digit));
      high = -1;
    }
  }
  return bytes;
}

}  // namespace

struct PngDecoder::State {
  PngHandle png;
  int width = 0, height = 0, orientation = 1, channels = 3;
  int colour = 0;
  bool mask = false;
  int number_bytes = 1;  // of a mask, in the file
  std::array<uint8_t, 768> palette{};
  std::vector<uint8_t> rows, out;

  [[noreturn]] void fail() {
    const Reason reason = png.out_of_memory ? Reason::too_large : png.ended ? Reason::truncated : Reason::corrupt;
    const std::string message = std::string("PNG: ") + png.message;
    png.close();
    throw Error(reason, message);
  }
  void check(bool ok) {
    if (!ok) fail();
  }

  // The decompressed text of a chunk; empty if it is damaged or too long. libpng decompresses it, from a small file
  // that has no other text chunk.
  std::string text_of(std::string_view chunk) {
    constexpr std::string_view kOnePixel("\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\0\0\0\0\x3A\x7E\x9B\x55",
                                         33);
    constexpr std::string_view kPixels("\0\0\0\0IDAT", 8);
    if (chunk.empty() || chunk.size() > kMaxTextBytes) return {};
    const std::string file = std::string(kOnePixel).append(chunk).append(kPixels);
    PngHandle header;
    const bool read =
        header.read_header(reinterpret_cast<const uint8_t*>(file.data()), file.size(), PngHandle::Texts::keep);
    if (header.out_of_memory) throw std::bad_alloc();
    png_textp texts = nullptr;
    int count = 0;
    if (read) png_get_text(header.png, header.info, &texts, &count);
    if (count != 1 || !texts->text) return {};
    return {texts->text, texts->compression >= PNG_ITXT_COMPRESSION_NONE ? texts->itxt_length : texts->text_length};
  }

  void read_orientation(const Chunks& chunks) {
    const std::string raw_exif = chunks.exif.empty() ? exif_of_raw_profile(text_of(chunks.raw_exif)) : std::string();
    const int64_t from_exif = exif_orientation(chunks.exif.empty() ? std::string_view(raw_exif) : chunks.exif);
    orientation = merge_orientation(from_exif, xmp_orientation(text_of(chunks.xmp)));
  }

  // An index past the end of the palette is black, as in Pillow.
  void read_palette() {
    png_colorp colours = nullptr;
    int count = 0;
    png_get_PLTE(png.png, png.info, &colours, &count);
    for (ptrdiff_t i = 0; i < 256; ++i) {
      const png_color colour = i < count ? colours[i] : png_color{0, 0, 0};
      if (channels == 1) {
        palette[i] = gray_of(colour.red, colour.green, colour.blue);
      } else {
        palette[3 * i] = colour.red;
        palette[3 * i + 1] = colour.green;
        palette[3 * i + 2] = colour.blue;
      }
    }
  }

  // Converts `count` pixels of libpng's row from column x0 on. Offsets are ptrdiff_t: a row can exceed INT_MAX bytes.
  const uint8_t* to_output(const uint8_t* row, ptrdiff_t x0, int count) {
    if (mask) return widened(row + x0 * number_bytes, count);
    if (colour == PNG_COLOR_TYPE_PALETTE) {
      for (ptrdiff_t x = 0; x < count; ++x) {
        std::memcpy(&out[x * channels], &palette[ptrdiff_t{row[x0 + x]} * channels], channels);
      }
      return out.data();
    }
    if (channels == 1 && (colour & PNG_COLOR_MASK_COLOR)) {
      rgb_row_to_gray(row + 3 * x0, out.data(), count);
      return out.data();
    }
    return row + x0 * channels;
  }

  // The numbers with zeros for the bytes that the file has not.
  const uint8_t* widened(const uint8_t* numbers, int count) {
    if (number_bytes == channels) return numbers;
    std::fill_n(out.begin(), ptrdiff_t{count} * channels, uint8_t{0});
    for (ptrdiff_t x = 0; x < count; ++x) std::memcpy(&out[x * channels], numbers + x * number_bytes, number_bytes);
    return out.data();
  }

  void check_mask(int depth) {
    if (colour != PNG_COLOR_TYPE_GRAY && colour != PNG_COLOR_TYPE_PALETTE)
      throw Error(Reason::unsupported, "PNG: colours, and a mask has one number a pixel");
    number_bytes = depth == 16 ? 2 : 1;
    if (number_bytes > channels) throw Error(Reason::unsupported, "PNG: 16 bits a pixel, and a mask of 8 is expected");
  }
};

PngDecoder::PngDecoder() : state_(std::make_unique<State>()) {}
PngDecoder::~PngDecoder() = default;

int PngDecoder::width() const noexcept { return state_->width; }
int PngDecoder::height() const noexcept { return state_->height; }
int PngDecoder::orientation() const noexcept { return state_->orientation; }

void PngDecoder::give_back_large_buffers() noexcept { give_back_if_large(state_->rows); }

void PngDecoder::open(const uint8_t* data, size_t size, const DecodeOptions& options) {
  State& s = *state_;
  s.channels = options.channels;
  // before libpng reads the file, because libpng allocates as many bytes as the length of a chunk says
  const Chunks chunks = walk_chunks(data, size, options.keep_truncated);
  s.check(s.png.read_header(data, size));
  const uint64_t width = png_get_image_width(s.png.png, s.png.info),
                 height = png_get_image_height(s.png.png, s.png.info);
  if (width * height > options.max_pixels) {
    throw Error(Reason::too_large, "PNG: " + std::to_string(width) + " x " + std::to_string(height) +
                                       " pixels, more than max_pixels = " + std::to_string(options.max_pixels));
  }
  s.width = static_cast<int>(width);
  s.height = static_cast<int>(height);
  s.colour = png_get_color_type(s.png.png, s.png.info);
  const int depth = png_get_bit_depth(s.png.png, s.png.info);
  s.mask = options.mask;
  if (s.mask) {
    s.check_mask(depth);
  } else if (s.colour == PNG_COLOR_TYPE_GRAY && depth == 16) {
    throw Error(Reason::unsupported, "PNG: 16 bits a pixel of grey");  // Python knows what the caller wants of them
  }
  s.read_orientation(chunks);
  if (s.colour == PNG_COLOR_TYPE_PALETTE && !s.mask) s.read_palette();
}

void PngDecoder::read(const IntBox& box, RowSink& sink) {
  State& s = *state_;
  int passes = 1;
  using Output = PngHandle::Output;
  s.check(s.png.start(s.mask ? Output::numbers : s.channels == 3 ? Output::rgb : Output::gray_or_rgb, &passes));
  const size_t row_bytes = png_get_rowbytes(s.png.png, s.png.info);
  s.out.resize(std::max(s.out.size(), size_t(box.width()) * 4));
  if (passes == 1) {
    s.rows.resize(std::max(s.rows.size(), row_bytes));
    for (int y = 0; y < box.y1; ++y) {
      s.check(s.png.read_row(s.rows.data()));
      if (y >= box.y0) sink.push(s.to_output(s.rows.data(), box.x0, box.width()));
    }
  } else {
    s.rows.assign(row_bytes * static_cast<size_t>(s.height), 0);
    for (int pass = 0; pass < passes; ++pass) {
      for (int y = 0; y < s.height; ++y) s.check(s.png.read_row(s.rows.data() + y * row_bytes));
    }
    for (int y = box.y0; y < box.y1; ++y) sink.push(s.to_output(s.rows.data() + y * row_bytes, box.x0, box.width()));
  }
  s.png.close();
}

}  // namespace lds
