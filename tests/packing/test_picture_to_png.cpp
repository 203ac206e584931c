// PNG rows of pictures of 8 and 16 bits: exact where they keep their size, and resized by the filter elsewhere.
#include <doctest/doctest.h>

#include <vector>

#include "codec/decode.h"
#include "common/error.h"
#include "convert/image_layout.h"
#include "packing/picture_to_png.h"

namespace {

using namespace lds;
using Bytes = std::vector<uint8_t>;

RowSpec spec_of(PixelType type, int longest) {
  RowSpec row;
  row.resize_h = longest;
  row.crop_h = row.crop_w = 0;
  row.out_h = row.out_w = 1;
  row.decode.channels = static_cast<int>(pixel_bytes(type));
  row.decode.mask = true;
  return row;
}

// The numbers of a PNG row, as little-endian bytes.
Bytes decoded(const Bytes& file, int bytes) {
  struct Rows : RowSink {
    size_t row_bytes = 0;
    Bytes all;
    void push(const uint8_t* row) override { all.insert(all.end(), row, row + row_bytes); }
  } rows;
  DecodeOptions options;
  options.channels = bytes;
  options.mask = true;
  Decoder decoder;
  const ImageInfo info = decoder.open(file.data(), file.size(), options);
  rows.row_bytes = static_cast<size_t>(info.width) * static_cast<size_t>(bytes);
  decoder.read({0, 0, info.width, info.height}, rows);
  return rows.all;
}

ConstImageView view_of(const Bytes& values, int height, int width, PixelType type) {
  const ImageLayout layout{1, {height, width}, true, type};
  return layout.view(values.data());
}

}  // namespace

TEST_CASE("a picture that keeps its size keeps its values") {
  for (const PixelType type : {PixelType::uint8, PixelType::uint16}) {
    const auto bytes = static_cast<int>(pixel_bytes(type));
    Bytes values(static_cast<size_t>(13 * 17 * bytes));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(i * 7);
    PictureToPng to_png(spec_of(type, 13));
    Bytes file;
    const JpegRow row = to_png.convert_values(view_of(values, 13, 17, type), type, file);
    CHECK(row.height == 13);
    CHECK(row.width == 17);
    CHECK(decoded(file, bytes) == values);
  }
}

TEST_CASE("a picture that is too large is resized as a whole number of 16 bits") {
  Bytes values;
  for (int i = 0; i < 30 * 40; ++i) values.insert(values.end(), {0xe8, 0x03});  // 1000
  PictureToPng to_png(spec_of(PixelType::uint16, 12));
  Bytes file;
  const JpegRow row = to_png.convert_values(view_of(values, 30, 40, PixelType::uint16), PixelType::uint16, file);
  CHECK(row.kept == Kept::shrunk);
  CHECK(row.height == 12);
  CHECK(row.width == 16);
  values.resize(size_t{12} * 16 * 2);
  CHECK(decoded(file, 2) == values);
}

TEST_CASE("pictures of other types and channels are refused") {
  const Bytes values(64);
  PictureToPng to_png(spec_of(PixelType::uint16, 0));
  Bytes file;
  CHECK_THROWS_AS(to_png.convert_values(view_of(values, 4, 4, PixelType::uint8), PixelType::uint8, file), Error);
  CHECK_THROWS_AS(to_png.convert_values(view_of(values, 4, 4, PixelType::float32), PixelType::float32, file), Error);
  CHECK_THROWS_AS(to_png.convert_values(view_of(values, 4, 4, PixelType::int16), PixelType::int16, file), Error);
  CHECK_THROWS_AS(to_png.convert_values(view_of(values, 0, 4, PixelType::uint16), PixelType::uint16, file), Error);
  ConstImageView two = view_of(values, 4, 4, PixelType::uint16);
  two.channels = 2;
  CHECK_THROWS_AS(to_png.convert_values(two, PixelType::uint16, file), Error);
  CHECK(file.empty());
}
