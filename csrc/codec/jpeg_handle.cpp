#include "codec/jpeg_handle.h"

#include <new>

namespace lds {
namespace {

constexpr int kMaxScans = 500;  // real files have about ten; libjpeg-turbo's own fuzzers stop here too

JpegHandle* handle_of(j_common_ptr info) { return static_cast<JpegHandle*>(info->client_data); }
JpegHandle* handle_of(j_decompress_ptr info) { return static_cast<JpegHandle*>(info->client_data); }

[[noreturn]] void fail(JpegHandle* handle, Reason reason) {
  handle->reason = handle->ended ? Reason::truncated : reason;
  (*handle->errors.format_message)(reinterpret_cast<j_common_ptr>(&handle->info), handle->message);
  std::longjmp(handle->jump, 1);  // NOLINT: see Note [setjmp]
}

[[noreturn]] void error_exit(j_common_ptr info) {
  switch (info->err->msg_code) {
#if JPEG_LIB_VERSION < 70  // later ones have arithmetic coding
    case JERR_ARITH_NOTIMPL:
#endif
    case JERR_BAD_PRECISION:
    case JERR_COMPONENT_COUNT:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_CCIR601_NOTIMPL:
    case JERR_SOF_UNSUPPORTED: fail(handle_of(info), Reason::unsupported);
    case JERR_IMAGE_TOO_BIG:
    case JERR_WIDTH_OVERFLOW:
    case JERR_OUT_OF_MEMORY: fail(handle_of(info), Reason::too_large);
    default: fail(handle_of(info), Reason::corrupt);
  }
}

// After a warning (level < 0), libjpeg continues with invented pixels. So warnings are errors, except those that do not
// affect pixels.
void emit_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  JpegHandle* handle = handle_of(info);
  switch (info->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_JFIF_MAJOR:
    case JWRN_NOT_SEQUENTIAL:
    case JWRN_BOGUS_ICC: return;
    case JWRN_HIT_MARKER:
      // The scan is shorter than the image. If the end of the image follows it, the file was truncated.
      if (handle->info.unread_marker == JPEG_EOI || handle->ended) {
        if (handle->keep_truncated) return;
        fail(handle, Reason::truncated);
      }
      fail(handle, Reason::corrupt);
    default:
      if (handle->ended && handle->keep_truncated) return;
      fail(handle, Reason::corrupt);
  }
}

void no_output(j_common_ptr) {}
void no_source(j_decompress_ptr) {}

// The whole file is in memory, so a request for more data means that the file is truncated. Like Pillow with
// LOAD_TRUNCATED_IMAGES, supplies an end marker, and libjpeg fills the rest of the image.
boolean fill_input(j_decompress_ptr info) {
  static const JOCTET kEnd[2] = {0xFF, JPEG_EOI};
  JpegHandle* handle = handle_of(info);
  handle->ended = true;
  if (!handle->keep_truncated) {
    info->err->msg_code = JWRN_JPEG_EOF;
    fail(handle, Reason::truncated);
  }
  info->src->next_input_byte = kEnd;
  info->src->bytes_in_buffer = sizeof kEnd;
  return TRUE;
}

void skip_input(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  const auto bytes = static_cast<size_t>(count);
  if (bytes > info->src->bytes_in_buffer) {
    static_cast<void>(fill_input(info));
    return;
  }
  info->src->next_input_byte += bytes;
  info->src->bytes_in_buffer -= bytes;
}

// A scan of a few bytes can cost a pass over the whole image: limits the number of scans, and scans times pixels.
void check_scans(j_common_ptr info) {
  JpegHandle* handle = handle_of(info);
  const int scans = handle->info.input_scan_number;
  const uint64_t pixels = uint64_t{handle->info.image_width} * handle->info.image_height;
  if (scans > kMaxScans || uint64_t(scans) * pixels / 64 > handle->max_pixels) {
    info->err->msg_code = JERR_BAD_PROGRESSION;
    fail(handle, Reason::corrupt);
  }
}

// Replaces libjpeg's alloc_small: see Note [tables].
void* alloc_small(j_common_ptr info, int pool, size_t size) {
  JpegHandle* handle = handle_of(info);
  void* spare = nullptr;
  if (pool == JPOOL_PERMANENT && size == sizeof(JQUANT_TBL)) spare = handle->spare_quantisation.acquire();
  if (pool == JPOOL_PERMANENT && size == sizeof(JHUFF_TBL)) spare = handle->spare_huffman.acquire();
  return spare ? spare : handle->libjpeg_alloc_small(info, pool, size);
}

boolean read_mcu(j_decompress_ptr info, JBLOCKROW* mcu) {
  handle_of(info)->scan.read_mcu(info, mcu);
  return TRUE;
}

bool create(JpegHandle* handle) {
  if (setjmp(handle->jump)) return false;
  jpeg_create_decompress(&handle->info);
  return true;
}

}  // namespace

JpegHandle::JpegHandle() {
  info.err = jpeg_std_error(&errors);
  errors.error_exit = &error_exit;
  errors.emit_message = &emit_message;
  errors.output_message = &no_output;
  info.client_data = this;
  if (!create(this)) {
    jpeg_destroy_decompress(&info);
    if (info.err->msg_code == JERR_OUT_OF_MEMORY) throw std::bad_alloc();
    throw Error(Reason::unsupported, message);
  }
  libjpeg_alloc_small = info.mem->alloc_small;
  info.mem->alloc_small = &alloc_small;
  source.init_source = &no_source;
  source.fill_input_buffer = &fill_input;
  source.skip_input_data = &skip_input;
  source.resync_to_restart = &jpeg_resync_to_restart;
  source.term_source = &no_source;
  info.src = &source;
  progress.progress_monitor = &check_scans;
  info.progress = &progress;
}

JpegHandle::~JpegHandle() { jpeg_destroy_decompress(&info); }

void JpegHandle::abort() {
  jpeg_abort_decompress(&info);
  for (JQUANT_TBL*& table : info.quant_tbl_ptrs) spare_quantisation.release(std::exchange(table, nullptr));
  for (JHUFF_TBL*& table : info.dc_huff_tbl_ptrs) spare_huffman.release(std::exchange(table, nullptr));
  for (JHUFF_TBL*& table : info.ac_huff_tbl_ptrs) spare_huffman.release(std::exchange(table, nullptr));
}

bool JpegHandle::read_header(const uint8_t* data, size_t size) {
  ended = false;
  message[0] = '\0';
  source.next_input_byte = data;
  source.bytes_in_buffer = size;
  if (setjmp(jump)) return false;
  while (jpeg_read_header(&info, FALSE) == JPEG_HEADER_TABLES_ONLY) {
  }
  return true;
}

bool JpegHandle::compute_output_size() {
  if (setjmp(jump)) return false;
  jpeg_calc_output_dimensions(&info);
  return true;
}

bool JpegHandle::start() {
  if (setjmp(jump)) return false;
  jpeg_start_decompress(&info);
  // libjpeg itself decides which pixels a truncated file has
  scan_is_ours = huffman_reader == HuffmanReader::ours && !keep_truncated && scan.begin(&info, jump_restarts);
  if (scan_is_ours) reinterpret_cast<EntropyDecoder*>(info.entropy)->decode_mcu = &read_mcu;
  return true;
}

bool JpegHandle::read_coefficients(jvirt_barray_ptr** coefficients) {
  if (setjmp(jump)) return false;
  *coefficients = jpeg_read_coefficients(&info);
  return true;
}

bool JpegHandle::is_smoothed() const noexcept {
  if (!info.progressive_mode || !info.coef_bits) return false;
  for (int c = 0; c < info.num_components; ++c) {
    const int* bits = info.coef_bits[c];
    if (std::any_of(bits, bits + 10, [](int missing) { return missing != 0; })) return true;
  }
  return false;
}

bool JpegHandle::crop(JDIMENSION* x, JDIMENSION* width) {
  if (setjmp(jump)) return false;
  jpeg_crop_scanline(&info, x, width);
  if (scan_is_ours) scan.limit_columns(&info, *x, *width);
  return true;
}

bool JpegHandle::skip_rows(JDIMENSION rows) {
  if (setjmp(jump)) return false;
  jpeg_skip_scanlines(&info, rows);
  return true;
}

bool JpegHandle::read_rows(JSAMPROW* rows, JDIMENSION count) {
  if (setjmp(jump)) return false;
  for (JDIMENSION done = 0; done < count;) done += jpeg_read_scanlines(&info, rows + done, count - done);
  return true;
}

}  // namespace lds
