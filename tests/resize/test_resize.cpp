// Compares every kernel with the scalar one, for sizes that cover all tails. Rows are allocated with their exact size,
// so that the address sanitizer detects reads and writes past their ends.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "common/error.h"
#include "resize/kernels.h"
#include "resize/resize.h"

namespace {

using namespace lds;

std::unique_ptr<uint8_t[]> noise(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  auto bytes = std::make_unique<uint8_t[]>(n);
  // includes extreme values, which overflow first
  for (size_t i = 0; i < n; ++i) bytes[i] = random() % 4 == 0 ? (random() % 2 ? 255 : 0) : random() % 256;
  return bytes;
}

AxisGeometry geometry(int in, int out, Filter filter) {
  AxisGeometry g;
  g.in_size = in;
  g.out_size = out;
  g.in1 = static_cast<float>(in);
  g.crop1 = out;
  g.filter = filter;
  return g;
}

void check_horizontal(const Kernels& kernels, const AxisGeometry& g, int channels) {
  HorizontalPass expected, found;
  expected.channels = found.channels = channels;
  expected.table.compute(g);
  found.table.compute(g);
  if (found.table.kind != AxisTable::Kind::weighted) return;
  kScalarKernels.prepare(expected);
  kernels.prepare(found);
  const auto row = noise(static_cast<size_t>(found.table.end - found.table.begin) * channels, g.in_size + channels);
  const int stride = padded(found.table.outputs);
  std::vector<uint8_t> a(static_cast<size_t>(stride) * channels), b(a.size());
  kScalarKernels.horizontal(expected, row.get(), a.data(), stride);
  kernels.horizontal(found, row.get(), b.data(), stride);
  for (int c = 0; c < channels; ++c) {
    CAPTURE(kernels.name);
    CAPTURE(g.in_size);
    CAPTURE(g.out_size);
    CAPTURE(channels);
    REQUIRE(std::memcmp(&a[c * stride], &b[c * stride], found.table.outputs) == 0);
  }
}

void check_vertical(const Kernels& kernels, const AxisGeometry& g, int width) {
  VerticalPass pass;
  pass.table.compute(g);
  if (pass.table.kind != AxisTable::Kind::weighted) return;
  kernels.prepare_vertical(pass);
  const int stride = padded(width);
  const auto pixels = noise(static_cast<size_t>(stride) * g.in_size, g.in_size);
  for (int i = 0; i < pass.table.outputs; i += 3) {
    std::vector<const uint8_t*> rows(pass.table.taps);
    for (int j = 0; j < pass.table.taps; ++j) {
      rows[j] = pixels.get() + static_cast<ptrdiff_t>(std::min(pass.table.first[i] + j, g.in_size - 1)) * stride;
    }
    auto a = std::make_unique<uint8_t[]>(width), b = std::make_unique<uint8_t[]>(width);
    kScalarKernels.vertical(pass, i, rows.data(), a.get(), width);
    kernels.vertical(pass, i, rows.data(), b.get(), width);
    CAPTURE(kernels.name);
    CAPTURE(width);
    REQUIRE(std::memcmp(a.get(), b.get(), width) == 0);
  }
}

// Of all sets that this processor supports.
std::vector<const Kernels*> supported_kernels() {
  std::vector<const Kernels*> kernels;
  for (const Simd set : supported_simd()) kernels.push_back(&resize_kernels(set));
  return kernels;
}

constexpr Filter kFilters[] = {Filter::box, Filter::bilinear, Filter::bicubic, Filter::lanczos};

TEST_CASE("resize: horizontal kernels equal the scalar one") {
  for (const Kernels* kernels : supported_kernels()) {
    for (const Filter filter : kFilters) {
      for (int channels = 1; channels <= 4; ++channels) {
        for (const int out : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 50}) {
          for (const int in : {1, 2, 3, 5, 8, 13, 16, 17, 24, 31, 32, 33, 47, 64, 100, 151, 257, 640}) {
            check_horizontal(*kernels, geometry(in, out, filter), channels);
          }
        }
      }
    }
  }
}

TEST_CASE("resize: horizontal kernels with fractional boxes and crops") {
  std::mt19937 random(7);
  for (const Kernels* kernels : supported_kernels()) {
    for (int round = 0; round < 400; ++round) {
      AxisGeometry g = geometry(1 + random() % 300, 1 + random() % 120, kFilters[random() % 4]);
      const float unit = static_cast<float>(g.in_size) / 1000;
      const int low = random() % 900;
      g.in0 = low * unit;
      g.in1 = std::min((low + 50 + random() % (950 - low)) * unit, static_cast<float>(g.in_size));
      g.crop0 = random() % g.out_size;
      g.crop1 = g.crop0 + 1 + random() % (g.out_size - g.crop0);
      g.antialias = random() % 4 != 0;
      check_horizontal(*kernels, g, 1 + random() % 4);
    }
  }
}

TEST_CASE("resize: vertical kernels equal the scalar one") {
  for (const Kernels* kernels : supported_kernels()) {
    for (const Filter filter : kFilters) {
      for (const int in : {1, 2, 3, 7, 16, 40, 100}) {
        for (const int width : {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100}) {
          check_vertical(*kernels, geometry(in, 13, filter), width);
        }
      }
    }
  }
}

TEST_CASE("resize: interleaving reverts deinterleaving") {
  for (const Kernels* kernels : supported_kernels()) {
    for (int channels = 1; channels <= 4; ++channels) {
      for (int width = 1; width <= 100; ++width) {
        const size_t n = static_cast<size_t>(width) * channels;
        const auto pixels = noise(n, width);
        const int stride = padded(width);
        std::vector<uint8_t> lines(static_cast<size_t>(stride) * channels);
        kernels->deinterleave(pixels.get(), width, channels, lines.data(), stride);
        for (int x = 0; x < width; ++x) {
          for (int c = 0; c < channels; ++c) REQUIRE(lines[c * stride + x] == pixels[x * channels + c]);
        }
        auto back = std::make_unique<uint8_t[]>(n);
        kernels->interleave(lines.data(), stride, width, channels, back.get());
        REQUIRE(std::memcmp(back.get(), pixels.get(), n) == 0);
      }
    }
  }
}

ResizeSpec spec_of(int in_w, int in_h, int out_w, int out_h, int channels) {
  ResizeSpec spec;
  spec.in_width = in_w;
  spec.in_height = in_h;
  spec.channels = channels;
  spec.box[2] = static_cast<float>(in_w);
  spec.box[3] = static_cast<float>(in_h);
  spec.out_width = out_w;
  spec.out_height = out_h;
  spec.crop = {0, 0, out_w, out_h};
  return spec;
}

TEST_CASE("resize: a crop equals that part of the whole, and depends on the needed rows only") {
  const auto pixels = noise(97 * 61 * 3, 1);
  StreamingResizer resizer;
  ResizeSpec spec = spec_of(97, 61, 40, 52, 3);
  std::vector<uint8_t> whole(40 * 52 * 3), part(11 * 9 * 3);
  resizer.resize(ConstImageView::hwc(pixels.get(), 61, 97, 3), spec, ImageView::hwc(whole.data(), 52, 40, 3));
  CHECK(resizer.done());
  spec.crop = {5, 30, 16, 39};
  resizer.begin(spec, ImageView::hwc(part.data(), 9, 11, 3));
  const IntBox box = resizer.needed();
  for (int y = box.y0; y < box.y1; ++y) {
    CHECK(!resizer.done());
    auto row = std::make_unique<uint8_t[]>(static_cast<size_t>(box.width()) * 3);
    std::memcpy(row.get(), pixels.get() + (y * 97 + box.x0) * 3, static_cast<size_t>(box.width()) * 3);
    resizer.push(row.get());
  }
  CHECK(resizer.done());
  for (int y = 0; y < 9; ++y) CHECK(std::memcmp(&part[y * 33], &whole[((y + 30) * 40 + 5) * 3], 33) == 0);
}

TEST_CASE("resize: an invalid spec is an error") {
  StreamingResizer resizer;
  std::vector<uint8_t> bytes(300);
  const ImageView out = ImageView::hwc(bytes.data(), 10, 10, 3);
  const auto check_error = [&](auto change) {
    ResizeSpec spec = spec_of(20, 20, 10, 10, 3);
    change(spec);
    CHECK_THROWS_AS(resizer.begin(spec, out), Error);
    CHECK(resizer.needed().width() == 0);
  };
  check_error([](ResizeSpec& s) { s.in_width = 0; });
  check_error([](ResizeSpec& s) { s.out_height = 0; });
  check_error([](ResizeSpec& s) { s.channels = 5; });
  check_error([](ResizeSpec& s) { s.box[2] = 20.5f; });
  check_error([](ResizeSpec& s) { s.box[0] = -1; });
  check_error([](ResizeSpec& s) { s.box[1] = s.box[3]; });
  check_error([](ResizeSpec& s) { s.crop.x1 = 11; });
  check_error([](ResizeSpec& s) { s.crop = {0, 0, 9, 10}; });
  check_error([](ResizeSpec& s) { s.crop = {3, 3, 3, 3}; });
  CHECK_THROWS_AS(resizer.push(bytes.data()), Error);
}

}  // namespace
