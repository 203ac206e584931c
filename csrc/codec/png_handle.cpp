#include "codec/png_handle.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace lds {
namespace {

constexpr png_alloc_size_t kMaxChunkBytes = 64u << 20;  // libpng refuses longer chunks, even if it skips them

[[noreturn]] void on_error(png_structp png, png_const_charp text) {
  auto* handle = static_cast<PngHandle*>(png_get_error_ptr(png));
  std::snprintf(handle->message, sizeof handle->message, "%s", text);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void* allocate(png_structp png, png_alloc_size_t bytes) {
  void* memory = std::malloc(bytes);
  if (!memory) static_cast<PngHandle*>(png_get_mem_ptr(png))->out_of_memory = true;
  return memory;
}

void release(png_structp, void* memory) { std::free(memory); }

void read_bytes(png_structp png, png_bytep out, size_t count) {
  auto* handle = static_cast<PngHandle*>(png_get_io_ptr(png));
  if (count > handle->left) {
    handle->ended = true;
    png_error(png, "the file ends early");
  }
  std::memcpy(out, handle->next, count);
  handle->next += count;
  handle->left -= count;
}

}  // namespace

bool PngHandle::read_header(const uint8_t* data, size_t size, Texts texts) {
  close();
  next = data;
  left = size;
  ended = out_of_memory = false;
  std::snprintf(message, sizeof message, "out of memory");
  png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, this, &on_error, &on_warning, this, &allocate, &release);
  if (!png) return false;
  info = png_create_info_struct(png);
  if (!info) return false;
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_read_fn(png, this, &read_bytes);
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // the caller checks width times height
  if (texts == Texts::keep) {
    png_set_chunk_malloc_max(png, kMaxTextBytes);
  } else {
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);  // -1: also known ones
    png_set_chunk_malloc_max(png, kMaxChunkBytes);
  }
  png_read_info(png, info);
  return true;
}

bool PngHandle::start(Output output, int* passes) {
  if (setjmp(png_jmpbuf(png))) return false;
  const int colour = png_get_color_type(png, info), depth = png_get_bit_depth(png, info);
  const bool numbers = output == Output::numbers;
  if (depth == 16 && numbers) png_set_swap(png);
  if (depth == 16 && !numbers) png_set_strip_16(png);  // the high byte, as Pillow takes it; the decoder takes no grey
  if (colour == PNG_COLOR_TYPE_PALETTE || numbers) {
    png_set_packing(png);
  } else {
    if (colour == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
    if (colour & PNG_COLOR_MASK_ALPHA) png_set_strip_alpha(png);
    if (output == Output::rgb && !(colour & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(png);
  }
  *passes = png_set_interlace_handling(png);
  png_read_update_info(png, info);
  return true;
}

bool PngHandle::read_row(uint8_t* row) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_read_row(png, row, nullptr);
  return true;
}

void PngHandle::close() noexcept {
  if (png) png_destroy_read_struct(&png, info ? &info : nullptr, nullptr);
  png = nullptr;
  info = nullptr;
}

}  // namespace lds
