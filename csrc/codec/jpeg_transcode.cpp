#include "codec/jpeg_transcode.h"

#include <array>
#include <new>
#include <string>

#include "codec/jpeg_handle.h"
#include "codec/jpeg_write_handle.h"

namespace lds {
namespace {

// An EXIF block with one entry, Orientation.
std::array<uint8_t, 32> exif_of(int orientation) noexcept {
  return {'E', 'x',  'i',  'f', 0,
          0,   'I',  'I',  '*', 0,
          8,   0,    0,    0,   1,
          0,   0x12, 0x01, 3,   0,
          1,   0,    0,    0,   static_cast<uint8_t>(orientation),
          0,   0,    0,    0,   0,
          0,   0};
}

// As jpeg_structure.cpp asks it of a file that is kept as it is.
bool has_plain_components(const jpeg_decompress_struct& info) noexcept {
  if (info.data_precision != 8 || (info.num_components != 1 && info.num_components != 3)) return false;
  int blocks = 0;
  for (int c = 0; c < info.num_components; ++c) {
    const jpeg_component_info& component = info.comp_info[c];
    if (info.max_h_samp_factor % component.h_samp_factor != 0 ||
        info.max_v_samp_factor % component.v_samp_factor != 0) {
      return false;
    }
    blocks += component.h_samp_factor * component.v_samp_factor;
  }
  return info.num_components == 1 || blocks <= C_MAX_BLOCKS_IN_MCU;
}

}  // namespace

struct JpegTranscoder::State {
  JpegHandle source;
  JpegWriteHandle copy;

  [[noreturn]] void fail() {
    const Reason reason = source.reason;
    const bool out_of_memory = source.info.err->msg_code == JERR_OUT_OF_MEMORY;
    const std::string message = std::string("JPEG: ") + source.message;
    source.abort();
    if (out_of_memory) throw std::bad_alloc();
    throw Error(reason, message);
  }

  void check_size(uint64_t max_pixels) {
    const uint64_t width = source.info.image_width, height = source.info.image_height;
    if (width * height <= max_pixels) return;
    throw Error(Reason::too_large, "JPEG: " + std::to_string(width) + " x " + std::to_string(height) +
                                       " pixels, more than max_pixels = " + std::to_string(max_pixels));
  }
};

JpegTranscoder::JpegTranscoder() : state_(std::make_unique<State>()) {}
JpegTranscoder::~JpegTranscoder() = default;

std::string_view JpegTranscoder::transcode(const uint8_t* data, size_t size, int orientation, uint64_t max_pixels) {
  State& s = *state_;
  s.source.abort();
  s.copy.abort();
  s.source.keep_truncated = false;
  s.source.max_pixels = max_pixels;
  if (!s.source.read_header(data, size)) s.fail();
  s.check_size(max_pixels);
  if (!has_plain_components(s.source.info)) {
    throw Error(Reason::unsupported, "JPEG: expected 1 or 3 components of 8 bits for a copy");
  }
  jvirt_barray_ptr* coefficients = nullptr;
  if (!s.source.read_coefficients(&coefficients)) s.fail();
  if (s.source.is_smoothed()) {
    s.source.abort();  // frees the coefficients
    throw Error(Reason::unsupported, "JPEG: the file lacks coefficients, so that a copy would have other pixels");
  }
  const std::array<uint8_t, 32> exif = exif_of(orientation);
  const unsigned exif_size = orientation == 1 ? 0 : static_cast<unsigned>(exif.size());
  const bool copied = s.copy.start_copy(&s.source.info, coefficients, exif.data(), exif_size) && s.copy.finish();
  s.source.abort();
  if (!copied) s.copy.fail();
  return {reinterpret_cast<const char*>(s.copy.bytes), s.copy.size};
}

}  // namespace lds
