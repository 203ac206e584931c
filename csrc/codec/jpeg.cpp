#include "codec/jpeg.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "codec/gray.h"
#include "codec/jpeg_handle.h"
#include "codec/jpeg_library.h"
#include "common/error.h"

namespace lds {
namespace {

// Note [margin]: upsampling mixes neighbouring chroma samples, and libjpeg treats the edge of the decoded part as the
// edge of the image. With this many additional pixels on each side, the box has the same pixels as in the whole image.
constexpr int kMargin = 4;
constexpr int kRowsAtOnce = 16;

// Converts an Adobe-inverted C, M or Y byte with its K byte to red, green or blue, like Pillow.
uint8_t uninvert(uint32_t ink, uint32_t key) noexcept {
  const uint32_t product = (255 - ink) * key + 128;
  return static_cast<uint8_t>(key - ((product + (product >> 8)) >> 8));
}

void cmyk_row_to_rgb(uint8_t* row, int width) noexcept {
  uint8_t* out = row;
  for (int x = 0; x < width; ++x, row += 4, out += 3) {
    const uint8_t key = row[3];
    for (int c = 0; c < 3; ++c) out[c] = uninvert(row[c], key);
  }
}

// A complete file ends with an EOI marker. Entropy-coded data can't contain one.
bool has_end_marker(const uint8_t* begin, const uint8_t* end) noexcept {
  while (end - begin >= 2) {
    const void* found = memrchr(begin, 0xFF, static_cast<size_t>(end - begin - 1));
    if (!found) return false;
    end = static_cast<const uint8_t*>(found) + 1;
    if (*end == JPEG_EOI) return true;
  }
  return false;
}

// Where to stop reading a truncated file: before its last marker segment if that one is incomplete, because libjpeg
// would report a corrupt segment and not a missing end.
const uint8_t* before_broken_segment(const uint8_t* begin, const uint8_t* end) noexcept {
  const uint8_t* at = end - 1;  // a marker has two bytes
  while (at > begin) {
    at = static_cast<const uint8_t*>(memrchr(begin, 0xFF, static_cast<size_t>(at - begin)));
    if (!at) break;
    const uint8_t code = at[1];
    if (code == 0x00 || code == 0xFF || (code >= JPEG_RST0 && code <= JPEG_RST0 + 7)) {
      continue;  // entropy-coded data
    }
    const bool complete = end - at >= 4 && end - at - 2 >= (at[2] << 8 | at[3]);
    return complete ? end : at;
  }
  return end;
}

}  // namespace

struct JpegDecoder::State {
  JpegHandle jpeg;
  const uint8_t* end = nullptr;
  int channels = 3;
  std::vector<uint8_t> rows;

  [[noreturn]] void fail() {
    const Reason reason = jpeg.reason;
    const bool out_of_memory = jpeg.info.err->msg_code == JERR_OUT_OF_MEMORY;
    const std::string message = std::string("JPEG: ") + jpeg.message;
    jpeg.abort();
    if (out_of_memory) throw std::bad_alloc();  // which says nothing about the image
    throw Error(reason, message);
  }
  void check(bool ok) {
    if (!ok) fail();
  }

  void choose_color_space() {
    jpeg_decompress_struct& info = jpeg.info;
    switch (info.num_components) {
      case 1: info.out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB; break;
      case 3: info.out_color_space = JCS_RGB; break;
      case 4: info.out_color_space = JCS_CMYK; break;
      default:
        throw Error(Reason::unsupported,
                    "JPEG: expected 1, 3 or 4 components, found " + std::to_string(info.num_components));
    }
  }

  uint8_t* to_output(uint8_t* row, int width) const noexcept {
    if (jpeg.info.out_color_space == JCS_CMYK) cmyk_row_to_rgb(row, width);
    if (channels == 1 && jpeg.info.out_color_space != JCS_GRAYSCALE) rgb_row_to_gray(row, row, width);
    return row;
  }
};

JpegDecoder::JpegDecoder() : state_(std::make_unique<State>()) {}
JpegDecoder::~JpegDecoder() = default;

int JpegDecoder::width() const noexcept { return static_cast<int>(state_->jpeg.info.output_width); }
int JpegDecoder::height() const noexcept { return static_cast<int>(state_->jpeg.info.output_height); }

void JpegDecoder::open(const uint8_t* data, size_t size, const DecodeOptions& options) {
  State& s = *state_;
  JpegHandle& jpeg = s.jpeg;
  jpeg.abort();
  jpeg.keep_truncated = false;  // nothing can be decoded without a complete header
  jpeg.huffman_reader = options.huffman_reader;
  if (options.huffman_reader == HuffmanReader::checked) {
    jpeg.huffman_reader = huffman_reader_agrees() ? HuffmanReader::ours : HuffmanReader::libjpeg;
  }
  jpeg.jump_restarts = options.jump_restarts;
  jpeg.max_pixels = options.max_pixels;
  s.end = data + size;
  s.channels = options.channels;
  s.check(jpeg.read_header(data, size));
  jpeg.keep_truncated = options.keep_truncated;
  const uint64_t width = jpeg.info.image_width, height = jpeg.info.image_height;
  if (width * height > options.max_pixels) {
    throw Error(Reason::too_large, "JPEG: " + std::to_string(width) + " x " + std::to_string(height) +
                                       " pixels, more than max_pixels = " + std::to_string(options.max_pixels));
  }
  if (!has_end_marker(jpeg.position(), s.end)) {
    if (options.keep_truncated) {
      jpeg.source.bytes_in_buffer =
          static_cast<size_t>(before_broken_segment(jpeg.position(), s.end) - jpeg.position());
    } else {
      throw Error(Reason::truncated, "JPEG: the file ends early (" + std::to_string(size) + " bytes, no EOI marker)");
    }
  }
  s.choose_color_space();
  s.check(jpeg.compute_output_size());
}

void JpegDecoder::set_draft(int min_width, int min_height) {
  const jpeg_decompress_struct& info = state_->jpeg.info;
  const JDIMENSION scale = std::min(info.image_width / static_cast<JDIMENSION>(std::max(min_width, 1)),
                                    info.image_height / static_cast<JDIMENSION>(std::max(min_height, 1)));
  set_scale(scale >= 8 ? 8 : scale >= 4 ? 4 : scale >= 2 ? 2 : 1);
}

void JpegDecoder::set_scale(int scale) {
  state_->jpeg.info.scale_num = 1;
  state_->jpeg.info.scale_denom = static_cast<unsigned>(scale);
  state_->check(state_->jpeg.compute_output_size());
}

void JpegDecoder::read(const IntBox& box, RowSink& sink) {
  State& s = *state_;
  JpegHandle& jpeg = s.jpeg;
  s.check(jpeg.start());
  const int height = this->height();
  const bool whole = jpeg.is_smoothed();  // further than the margin reaches
  auto x = static_cast<JDIMENSION>(whole ? 0 : std::max(box.x0 - kMargin, 0));
  JDIMENSION width = static_cast<JDIMENSION>(std::min(box.x1 + kMargin, this->width())) - x;
  if (!whole && width < jpeg.info.output_width) {
    s.check(jpeg.crop(&x, &width));
  } else {
    x = 0;
  }
  const int top = whole ? 0 : std::max(box.y0 - kMargin, 0);
  if (top > 0) s.check(jpeg.skip_rows(static_cast<JDIMENSION>(top)));

  const size_t row_bytes = size_t{jpeg.info.output_width} * static_cast<size_t>(jpeg.info.output_components);
  s.rows.resize(std::max(s.rows.size(), row_bytes * kRowsAtOnce));
  std::array<JSAMPROW, kRowsAtOnce> rows{};
  for (int i = 0; i < kRowsAtOnce; ++i) rows[i] = s.rows.data() + i * row_bytes;
  const size_t first = (static_cast<size_t>(box.x0) - x) * static_cast<size_t>(jpeg.info.output_components);
  const int bottom = std::min(box.y1, height);
  for (int y = top; y < bottom;) {
    const int count = std::min(kRowsAtOnce, bottom - y);
    s.check(jpeg.read_rows(rows.data(), static_cast<JDIMENSION>(count)));
    for (int i = 0; i < count; ++i, ++y) {
      if (y >= box.y0) sink.push(s.to_output(rows[i] + first, box.width()));
    }
  }
  jpeg.abort();
}

}  // namespace lds
