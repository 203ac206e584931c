// Users must be able to reproduce draws, so they must never change. The expected values are from tests/reference.py.
#include <doctest/doctest.h>

#include <vector>

#include "common/error.h"
#include "transform/geometry.h"

using namespace lds;

namespace {

struct Drawn {
  uint64_t seed, epoch, sample;
  IntBox box;
  bool flip;
};

void check_draws(AugmentSpec spec, ImageSize image, ImageSize expected, const std::vector<Drawn>& draws) {
  spec.flip = 0.5;
  check(spec, image);
  for (const Drawn& drawn : draws) {
    SampleRandom random(drawn.seed, drawn.epoch, drawn.sample);
    const Geometry found = draw_geometry(spec, image, random);
    CHECK(found.box == drawn.box);
    CHECK(found.flip == drawn.flip);
    CHECK(found.resized == expected);
    CHECK(found.part == IntBox{0, 0, expected.width, expected.height});
    CHECK(found.resizes() == (spec.crop == CropMode::random_resized));
  }
}

AugmentSpec cropped(CropMode crop, ImageSize size, int padding = 0) {
  AugmentSpec spec;
  spec.crop = crop;
  spec.size = size;
  spec.padding = padding;
  return spec;
}

constexpr uint64_t kMax = ~uint64_t{0};
constexpr ImageSize kImage{40, 60};

}  // namespace

TEST_CASE("a geometry is a function of seed, epoch and sample") {
  check_draws(
      {}, kImage, kImage,
      {{1, 0, 0, {0, 0, 60, 40}, true}, {1, 2, 12345678901, {0, 0, 60, 40}, true}, {kMax, 3, 7, {0, 0, 60, 40}, true}});
  check_draws(cropped(CropMode::center, {31, 20}), kImage, {31, 20},
              {{1, 0, 0, {20, 4, 40, 35}, true},
               {1, 2, 12345678901, {20, 4, 40, 35}, true},
               {kMax, 3, 7, {20, 4, 40, 35}, true}});
  check_draws(cropped(CropMode::random, {32, 48}, 4), kImage, {32, 48},
              {{1, 0, 0, {14, 3, 62, 35}, false},
               {1, 2, 12345678901, {-4, -2, 44, 30}, false},
               {kMax, 3, 7, {13, -1, 61, 31}, true}});
  check_draws(cropped(CropMode::random, {3, 2}, 5), {4, 4}, {3, 2},
              {{1, 0, 0, {6, -1, 8, 2}, false},
               {1, 2, 12345678901, {-5, -4, -3, -1}, false},
               {kMax, 3, 7, {5, -3, 7, 0}, true}});
  AugmentSpec resized = cropped(CropMode::random_resized, {24, 24});
  check_draws(resized, kImage, {24, 24},
              {{1, 0, 0, {14, 6, 51, 36}, false},
               {1, 2, 12345678901, {9, 14, 29, 40}, false},
               {kMax, 3, 7, {25, 4, 52, 26}, true}});
  resized.scale[0] = 0.9;  // with these aspect ratios, no draw fits
  resized.ratio[0] = 3.0;
  resized.ratio[1] = 4.0;
  check_draws(resized, kImage, {24, 24},
              {{1, 0, 0, {0, 10, 60, 30}, true},
               {1, 2, 12345678901, {0, 10, 60, 30}, true},
               {kMax, 3, 7, {0, 10, 60, 30}, false}});
}

TEST_CASE("a whole image is resized before a center crop, as torchvision does") {
  AugmentSpec spec = cropped(CropMode::center, {24, 20});
  spec.resize = {30, 0};
  SampleRandom random(1, 2, 3);
  const Geometry found = draw_geometry(spec, {41, 63}, random);  // height, width
  CHECK(found.box == IntBox{0, 0, 63, 41});
  CHECK(found.resized == ImageSize{30, 46});
  CHECK(found.part == IntBox{13, 3, 33, 27});
  const Geometry kept = draw_geometry(spec, {30, 46}, random);  // has that size already
  CHECK_FALSE(kept.resizes());
  CHECK(kept.box == IntBox{13, 3, 33, 27});
  CHECK(kept.part == IntBox{0, 0, 20, 24});
  CHECK(resized_size({30, 0}, {63, 41}) == ImageSize{46, 30});
  CHECK(resized_size({30, 7}, {63, 41}) == ImageSize{30, 7});
  CHECK(resized_size({0, 0}, {63, 41}) == ImageSize{63, 41});
  CHECK_THROWS_AS(resized_size({1 << 20, 0}, {1, 1 << 20}), Error);
  spec.size = {24, 50};  // fits only into images that are wide enough
  CHECK_THROWS_AS(draw_geometry(spec, {41, 63}, random), Error);
  CHECK_NOTHROW(draw_geometry(spec, {41, 90}, random));
}

TEST_CASE("the vertical flip is drawn last, and not at all where it can't happen") {
  AugmentSpec spec = cropped(CropMode::random, {32, 48}, 4);
  spec.flip = 0.5;
  AugmentSpec both = spec;
  both.vertical_flip = 0.5;
  int flipped = 0;
  for (uint64_t sample = 0; sample < 1000; ++sample) {
    SampleRandom one(1, 2, sample), other(1, 2, sample);
    const Geometry plain = draw_geometry(spec, kImage, one), found = draw_geometry(both, kImage, other);
    CHECK(found.box == plain.box);
    CHECK(found.flip == plain.flip);
    CHECK(!plain.vertical_flip);
    CHECK(found.vertical_flip == (one.uniform() < 0.5));
    flipped += found.vertical_flip ? 1 : 0;
  }
  CHECK(flipped > 400);
  CHECK(flipped < 600);
}

TEST_CASE("a box may be inside an image completely, partly, or not at all") {
  const auto inside = [](const IntBox& box, ImageSize image) { return Geometry{box, box.size(), {}}.inside(image); };
  CHECK(inside({1, 2, 5, 6}, {6, 5}) == IntBox{1, 2, 5, 6});
  CHECK(inside({-3, 2, 9, 8}, {6, 5}) == IntBox{0, 2, 5, 6});
  CHECK(inside({-5, -4, -3, -1}, {4, 4}).width() == 0);
  CHECK(inside({6, -1, 8, 2}, {4, 4}).width() == 0);
}

TEST_CASE("crops that do not fit and invalid numbers are errors") {
  CHECK_THROWS_AS(check(cropped(CropMode::center, {41, 60}), kImage), Error);
  CHECK_THROWS_AS(check(cropped(CropMode::random, {49, 60}, 4), kImage), Error);
  CHECK_NOTHROW(check(cropped(CropMode::random, {48, 68}, 4), kImage));
  CHECK_THROWS_AS(check(cropped(CropMode::random, {48, 68}, -1), kImage), Error);
  CHECK_THROWS_AS(check(cropped(CropMode::random, {48, 68}, 1 << 30), kImage), Error);
  CHECK_THROWS_AS(check(cropped(CropMode::random_resized, {0, 1}), kImage), Error);
  AugmentSpec spec = cropped(CropMode::random, {8, 8});
  spec.resize = {30, 0};
  CHECK_THROWS_AS(check(spec, kImage), Error);  // is for a center crop
  spec = cropped(CropMode::center, {31, 8});
  spec.resize = {30, 0};
  CHECK_THROWS_AS(check(spec, kImage), Error);
  spec.resize = {-1, 0};
  CHECK_THROWS_AS(check(spec, kImage), Error);
  spec = {};
  spec.flip = 1.5;
  CHECK_THROWS_AS(check(spec, kImage), Error);
  spec = {};
  spec.vertical_flip = -0.5;
  CHECK_THROWS_AS(check(spec, kImage), Error);
}
