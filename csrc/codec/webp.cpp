#include "codec/webp.h"

#include <webp/decode.h>
#include <webp/demux.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include "codec/exif.h"
#include "codec/gray.h"
#include "common/error.h"
#include "common/kept_buffer.h"

namespace lds {
namespace {

[[noreturn]] void fail(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA: throw Error(Reason::truncated, "WebP: the image data ends early");
    case VP8_STATUS_UNSUPPORTED_FEATURE: throw Error(Reason::unsupported, "WebP: unsupported feature");
    case VP8_STATUS_OUT_OF_MEMORY: throw Error(Reason::too_large, "WebP: out of memory");
    default: throw Error(Reason::corrupt, "WebP: the image data breaks the format's rules");
  }
}

struct DemuxerDeleter {
  void operator()(WebPDemuxer* demuxer) const noexcept { WebPDemuxDelete(demuxer); }
};
using Demuxer = std::unique_ptr<WebPDemuxer, DemuxerDeleter>;

Demuxer demux(const uint8_t* data, size_t size) {
  const WebPData bytes{data, size};
  WebPDemuxState state = WEBP_DEMUX_PARSE_ERROR;
  errno = 0;
  Demuxer demuxer(WebPDemuxPartial(&bytes, &state));
  if (demuxer && state == WEBP_DEMUX_DONE) return demuxer;
  if (errno == ENOMEM) fail(VP8_STATUS_OUT_OF_MEMORY);  // libwebp reports it as a parse error
  if (state == WEBP_DEMUX_PARSE_ERROR) throw Error(Reason::corrupt, "WebP: the chunks break the format's rules");
  throw Error(Reason::truncated, "WebP: the file ends early (" + std::to_string(size) + " bytes)");
}

std::string_view chunk(const WebPDemuxer* demuxer, const char* name) {
  WebPChunkIterator found{};
  std::string_view bytes;  // of the file, not of the iterator
  if (WebPDemuxGetChunk(demuxer, name, 1, &found)) {
    bytes = {reinterpret_cast<const char*>(found.chunk.bytes), found.chunk.size};
  }
  WebPDemuxReleaseChunkIterator(&found);
  return bytes;
}

// Where the first frame lies on the canvas, and its bytes.
struct Frame {
  IntBox box;
  const uint8_t* data = nullptr;
  size_t size = 0;
};

Frame first_frame(const WebPDemuxer* demuxer) {
  WebPIterator found{};
  Frame frame;
  if (WebPDemuxGetFrame(demuxer, 1, &found)) {
    frame.box = {found.x_offset, found.y_offset, found.x_offset + found.width, found.y_offset + found.height};
    frame.data = found.fragment.bytes;
    frame.size = found.fragment.size;
  }
  WebPDemuxReleaseIterator(&found);
  if (!frame.data) throw Error(Reason::corrupt, "WebP: no image in the file");
  return frame;
}

}  // namespace

struct WebpDecoder::State {
  Frame frame;
  int width = 0, height = 0, orientation = 1, channels = 3;
  std::vector<uint8_t> pixels, row;
};

WebpDecoder::WebpDecoder() : state_(std::make_unique<State>()) {}
WebpDecoder::~WebpDecoder() = default;

int WebpDecoder::width() const noexcept { return state_->width; }
int WebpDecoder::height() const noexcept { return state_->height; }
int WebpDecoder::orientation() const noexcept { return state_->orientation; }

void WebpDecoder::give_back_large_buffers() noexcept { give_back_if_large(state_->pixels); }

void WebpDecoder::open(const uint8_t* data, size_t size, const DecodeOptions& options) {
  State& s = *state_;
  const Demuxer demuxer = demux(data, size);
  const uint64_t width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
  const uint64_t height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
  if (width * height > options.max_pixels) {
    throw Error(Reason::too_large, "WebP: " + std::to_string(width) + " x " + std::to_string(height) +
                                       " pixels, more than max_pixels = " + std::to_string(options.max_pixels));
  }
  s.width = static_cast<int>(width);
  s.height = static_cast<int>(height);
  s.channels = options.channels;
  s.frame = first_frame(demuxer.get());
  s.orientation =
      merge_orientation(exif_orientation(chunk(demuxer.get(), "EXIF")), xmp_orientation(chunk(demuxer.get(), "XMP ")));
}

void WebpDecoder::read(const IntBox& box, RowSink& sink) {
  State& s = *state_;
  const IntBox& frame = s.frame.box;
  const size_t stride = static_cast<size_t>(frame.width()) * 3;
  s.pixels.resize(stride * static_cast<size_t>(frame.height()));

  WebPDecoderConfig config{};
  if (!WebPInitDecoderConfig(&config))
    throw Error(Reason::internal, "WebP: libwebp has another ABI version than its headers");
  config.output.colorspace = MODE_RGB;  // alpha is dropped, not blended, like in Pillow's convert("RGB")
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {s.pixels.data(), static_cast<int>(stride), s.pixels.size()};
  errno = 0;
  const VP8StatusCode status = WebPDecode(s.frame.data, s.frame.size, &config);
  const bool out_of_memory = errno == ENOMEM;  // libwebp may report it as a damaged file
  WebPFreeDecBuffer(&config.output);
  if (status != VP8_STATUS_OK) fail(out_of_memory ? VP8_STATUS_OUT_OF_MEMORY : status);

  // The canvas outside of the frame is transparent black.
  s.row.assign(static_cast<size_t>(box.width()) * 3, 0);
  const int x0 = std::max(box.x0, frame.x0), x1 = std::max(std::min(box.x1, frame.x1), x0);
  const size_t bytes = static_cast<size_t>(x1 - x0) * 3;
  for (int y = box.y0; y < box.y1; ++y) {
    const bool inside = y >= frame.y0 && y < frame.y1;
    if (!inside) {
      std::fill(s.row.begin(), s.row.end(), uint8_t{0});
    } else if (bytes > 0) {
      const uint8_t* from = s.pixels.data() + (y - frame.y0) * stride + (x0 - frame.x0) * size_t{3};
      std::copy(from, from + bytes, s.row.data() + (x0 - box.x0) * size_t{3});
    }
    if (s.channels == 1) rgb_row_to_gray(s.row.data(), s.row.data(), box.width());
    sink.push(s.row.data());
    if (s.channels == 1) std::fill(s.row.begin(), s.row.end(), uint8_t{0});
  }
}

}  // namespace lds
