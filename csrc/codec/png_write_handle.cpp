#include "codec/png_write_handle.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace lds {
namespace {

constexpr size_t kFirstCapacity = size_t{16} << 10;

[[noreturn]] void on_error(png_structp png, png_const_charp text) {
  auto* handle = static_cast<PngWriteHandle*>(png_get_error_ptr(png));
  std::snprintf(handle->message, sizeof handle->message, "%s", text);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void* allocate(png_structp png, png_alloc_size_t bytes) {
  void* memory = std::malloc(bytes);
  if (!memory) static_cast<PngWriteHandle*>(png_get_mem_ptr(png))->out_of_memory = true;
  return memory;
}

void release(png_structp, void* memory) { std::free(memory); }

void append(png_structp png, png_bytep data, size_t count) {
  auto* handle = static_cast<PngWriteHandle*>(png_get_io_ptr(png));
  if (count > handle->capacity - handle->size) {
    const size_t capacity = std::max({kFirstCapacity, handle->capacity * 2, handle->size + count});
    void* grown = std::realloc(handle->bytes, capacity);
    if (!grown) {
      handle->out_of_memory = true;
      png_error(png, "out of memory");
    }
    handle->bytes = static_cast<uint8_t*>(grown);
    handle->capacity = capacity;
  }
  std::memcpy(handle->bytes + handle->size, data, count);
  handle->size += count;
}

void flush(png_structp) {}

}  // namespace

PngWriteHandle::~PngWriteHandle() {
  close();
  std::free(bytes);
}

bool PngWriteHandle::start(int width, int height, int bits) {
  close();
  size = 0;
  out_of_memory = false;
  std::snprintf(message, sizeof message, "out of memory");
  png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, this, &on_error, &on_warning, this, &allocate, &release);
  if (!png) return false;
  info = png_create_info_struct(png);
  if (!info) return false;
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_write_fn(png, this, &append, &flush);
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE);  // the smallest for masks, and the fastest to read
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), bits, PNG_COLOR_TYPE_GRAY,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
  png_write_info(png, info);
  if (bits == 16) png_set_swap(png);
  return true;
}

bool PngWriteHandle::write_row(const uint8_t* row) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_write_row(png, row);
  return true;
}

bool PngWriteHandle::finish() {
  if (setjmp(png_jmpbuf(png))) return false;
  png_write_end(png, nullptr);
  return true;
}

void PngWriteHandle::close() noexcept {
  if (png) png_destroy_write_struct(&png, info ? &info : nullptr);
  png = nullptr;
  info = nullptr;
}

}  // namespace lds
