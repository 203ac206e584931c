#include "codec/jpeg_write_handle.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <string>

#include "common/file_bytes.h"
#include "common/kept_buffer.h"

namespace lds {
namespace {

constexpr size_t kFirstBytes = size_t{64} << 10;
constexpr auto kMaxBytes = static_cast<size_t>(kMaxFileBytes);

JpegWriteHandle* handle_of(j_compress_ptr info) { return static_cast<JpegWriteHandle*>(info->client_data); }

[[noreturn]] void error_exit(j_common_ptr info) {
  auto* handle = static_cast<JpegWriteHandle*>(info->client_data);
  const int code = info->err->msg_code;
  handle->out_of_memory = code == JERR_OUT_OF_MEMORY;
  handle->reason = code == JERR_IMAGE_TOO_BIG || code == JERR_WIDTH_OVERFLOW || code == JERR_FILE_WRITE
                       ? Reason::too_large
                       : Reason::corrupt;
  (*info->err->format_message)(info, handle->message);
  std::longjmp(handle->jump, 1);  // NOLINT: see Note [setjmp] in jpeg_handle.h
}

void ignore_message(j_common_ptr, int) {}
void no_output(j_common_ptr) {}

void stop(j_compress_ptr info, int code) {
  info->err->msg_code = code;
  (*info->err->error_exit)(reinterpret_cast<j_common_ptr>(info));
}

void init_destination(j_compress_ptr info) {
  JpegWriteHandle* handle = handle_of(info);
  if (!handle->bytes) {
    handle->bytes = static_cast<uint8_t*>(std::malloc(kFirstBytes));
    handle->capacity = handle->bytes ? kFirstBytes : 0;
    if (!handle->bytes) stop(info, JERR_OUT_OF_MEMORY);
  }
  info->dest->next_output_byte = handle->bytes;
  info->dest->free_in_buffer = handle->capacity;
}

// libjpeg calls it when the buffer is full, whatever free_in_buffer says.
boolean grow(j_compress_ptr info) {
  JpegWriteHandle* handle = handle_of(info);
  const size_t used = handle->capacity;
  if (used >= kMaxBytes) stop(info, JERR_FILE_WRITE);
  const size_t capacity = std::min(used * 2, kMaxBytes);
  auto* larger = static_cast<uint8_t*>(std::realloc(handle->bytes, capacity));
  if (!larger) stop(info, JERR_OUT_OF_MEMORY);
  handle->bytes = larger;
  handle->capacity = capacity;
  info->dest->next_output_byte = larger + used;
  info->dest->free_in_buffer = capacity - used;
  return TRUE;
}

void end_destination(j_compress_ptr info) {
  JpegWriteHandle* handle = handle_of(info);
  handle->size = handle->capacity - info->dest->free_in_buffer;
}

bool create(JpegWriteHandle* handle) {
  if (setjmp(handle->jump)) return false;
  jpeg_create_compress(&handle->info);
  return true;
}

}  // namespace

JpegWriteHandle::JpegWriteHandle() {
  info.err = jpeg_std_error(&errors);
  errors.error_exit = &error_exit;
  errors.emit_message = &ignore_message;
  errors.output_message = &no_output;
  info.client_data = this;
  if (!create(this)) {
    jpeg_destroy_compress(&info);
    if (out_of_memory) throw std::bad_alloc();
    throw Error(Reason::unsupported, message);
  }
  destination.init_destination = &init_destination;
  destination.empty_output_buffer = &grow;
  destination.term_destination = &end_destination;
  info.dest = &destination;
}

JpegWriteHandle::~JpegWriteHandle() {
  jpeg_destroy_compress(&info);
  std::free(bytes);
}

void JpegWriteHandle::abort() {
  jpeg_abort_compress(&info);
  if (capacity <= kKeptBytes) return;
  std::free(bytes);
  bytes = nullptr;
  capacity = 0;
}

void JpegWriteHandle::fail() {
  abort();
  if (out_of_memory) throw std::bad_alloc();
  throw Error(reason, std::string("JPEG: ") + message);
}

bool JpegWriteHandle::start(int width, int height, int channels, int quality) {
  if (setjmp(jump)) return false;
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = channels;
  info.in_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  info.restart_in_rows = 1;
  jpeg_start_compress(&info, TRUE);
  return true;
}

bool JpegWriteHandle::write_rows(JSAMPROW* rows, JDIMENSION count) {
  if (setjmp(jump)) return false;
  for (JDIMENSION done = 0; done < count;) done += jpeg_write_scanlines(&info, rows + done, count - done);
  return true;
}

bool JpegWriteHandle::start_copy(jpeg_decompress_struct* source, jvirt_barray_ptr* coefficients, const uint8_t* exif,
                                 unsigned exif_size) {
  if (setjmp(jump)) return false;
  jpeg_copy_critical_parameters(source, &info);
  info.optimize_coding = TRUE;
  info.restart_in_rows = 1;
  jpeg_write_coefficients(&info, coefficients);
  if (exif_size > 0) jpeg_write_marker(&info, JPEG_APP0 + 1, exif, exif_size);
  return true;
}

bool JpegWriteHandle::finish() {
  if (setjmp(jump)) return false;
  jpeg_finish_compress(&info);
  return true;
}

}  // namespace lds
