#include "codec/jpeg_encode.h"

#include <algorithm>
#include <array>

#include "codec/jpeg_write_handle.h"

namespace lds {
namespace {

constexpr int kRowsAtOnce = 16;

}  // namespace

struct JpegEncoder::State {
  JpegWriteHandle jpeg;
};

JpegEncoder::JpegEncoder() : state_(std::make_unique<State>()) {}
JpegEncoder::~JpegEncoder() = default;

std::string_view JpegEncoder::encode(const ConstImageView& pixels, int quality) {
  JpegWriteHandle& jpeg = state_->jpeg;
  jpeg.abort();
  if (!jpeg.start(pixels.width, pixels.height, pixels.channels, quality)) jpeg.fail();
  std::array<JSAMPROW, kRowsAtOnce> rows{};
  for (int y = 0; y < pixels.height;) {
    const int count = std::min(kRowsAtOnce, pixels.height - y);
    // libjpeg does not write to the rows; its type does not say so
    for (int i = 0; i < count; ++i) rows[static_cast<size_t>(i)] = const_cast<JSAMPROW>(pixels.row(y + i));
    if (!jpeg.write_rows(rows.data(), static_cast<JDIMENSION>(count))) jpeg.fail();
    y += count;
  }
  if (!jpeg.finish()) jpeg.fail();
  return {reinterpret_cast<const char*>(jpeg.bytes), jpeg.size};
}

}  // namespace lds
