// Tests that a warm decoder and resizer allocate nothing per image, apart from libjpeg's own memory pool.
#include <doctest/doctest.h>

#if defined(__SANITIZE_ADDRESS__)  // ASan's allocator has hooks that count allocations

#include <cstdlib>
#include <vector>

#include "jpeg_of.h"
#include "packing/image_to_row.h"

// from <sanitizer/allocator_interface.h>, which gcc does not install
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void*, size_t),
                                                         void (*free_hook)(const volatile void*));

namespace {

int allocations = 0;
void count_one(const volatile void*, size_t) { ++allocations; }
void count_none(const volatile void*) {}

Bytes noisy_jpeg(int width, int height) {
  Bytes pixels(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  for (size_t i = 0; i < pixels.size(); ++i) {
    pixels[i] = static_cast<uint8_t>(i * 7 + i / (static_cast<size_t>(width) * 3) * 11);
  }
  return jpeg_of(pixels, width, height);
}

// Decodes with libjpeg alone, and reuses the decompressor.
struct BareLibjpeg {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  Bytes row = Bytes(1 << 16);
  BareLibjpeg() {
    info.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&info);
  }
  BareLibjpeg(const BareLibjpeg&) = delete;
  BareLibjpeg& operator=(const BareLibjpeg&) = delete;
  ~BareLibjpeg() { jpeg_destroy_decompress(&info); }
  void decode(const Bytes& file) {
    jpeg_mem_src(&info, file.data(), file.size());
    jpeg_read_header(&info, TRUE);
    jpeg_start_decompress(&info);
    JSAMPROW rows[1] = {row.data()};
    while (info.output_scanline < info.output_height) jpeg_read_scanlines(&info, rows, 1);
    jpeg_abort_decompress(&info);
  }
};

template <class Work>
int allocations_of(Work work) {
  const int before = allocations;
  work();
  return allocations - before;
}

}  // namespace

TEST_CASE("a warm decoder and resizer allocate nothing of their own") {
  const std::vector<Bytes> files = {noisy_jpeg(300, 200), noisy_jpeg(200, 300), noisy_jpeg(640, 480)};
  lds::RowSpec spec;
  spec.resize_h = spec.out_h = 32;
  spec.resize_w = spec.out_w = 40;
  spec.crop_h = spec.crop_w = 0;  // libjpeg decodes the whole image, as below
  lds::ImageToRow rows(spec);
  BareLibjpeg bare;
  Bytes out(size_t{3} * 32 * 40);
  const auto ours = [&] {
    for (const Bytes& file : files) rows.convert(file.data(), file.size(), out.data());
  };
  const auto libjpeg = [&] {
    for (const Bytes& file : files) bare.decode(file);
  };
  for (int i = 0; i < 2; ++i) {
    ours();
    libjpeg();
  }
  REQUIRE(__sanitizer_install_malloc_and_free_hooks(count_one, count_none) > 0);
  const int expected = allocations_of(libjpeg);
  CHECK(expected > 0);
  CHECK(allocations_of(ours) <= expected);
}

#endif
