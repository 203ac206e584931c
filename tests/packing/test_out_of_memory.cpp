// Tests that a failed allocation only affects its image: the next image of the same size is packed correctly.
#include <doctest/doctest.h>

#include <new>
#include <vector>

#include "failing_new.h"
#include "packing/image_to_row.h"

namespace {

using Bytes = std::vector<uint8_t>;

}  // namespace

TEST_CASE("after a failed allocation, the same image gives the correct row") {
  constexpr int kHeight = 61, kWidth = 83;
  Bytes pixels(size_t{kHeight} * kWidth * 3);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 7 + i / 249 * 13);
  const auto view = lds::ConstImageView::hwc(pixels.data(), kHeight, kWidth, 3);
  for (const lds::Filter filter : {lds::Filter::nearest, lds::Filter::bilinear, lds::Filter::lanczos}) {
    lds::RowSpec spec;
    spec.resize_h = spec.resize_w = spec.out_h = spec.out_w = 24;
    spec.crop_h = spec.crop_w = 0;
    spec.filter = filter;
    Bytes expected(size_t{24} * 24 * 3), found(expected.size());
    lds::ImageToRow(spec).convert_pixels(view, expected.data());
    int failures = 0;
    for (bool failed = true; failed; ++failures) {
      lds::ImageToRow rows(spec);
      {
        const FailingNew memory(failures);
        try {
          rows.convert_pixels(view, found.data());
        } catch (const std::bad_alloc&) {
          CHECK(memory.failed());
        }
        failed = memory.failed();
      }
      rows.convert_pixels(view, found.data());
      CHECK(found == expected);
    }
    CHECK(failures > 5);
  }
}
