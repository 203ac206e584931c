#include "packing/values_to_row.h"

#include <string>

#include "common/error.h"

namespace lds {
namespace {

ImageLayout layout_of(const RowSpec& row, PixelType type) {
  const ImageLayout layout{row.decode.channels, {row.out_h, row.out_w}, row.planar, type};
  check(layout);
  return layout;
}

WideSampleWriter writer_of(const RowSpec& row, PixelType type) {
  const ImageLayout layout = layout_of(row, type);
  OutputSpec output{row.planar, type};
  return {layout, layout.size, row.resize_h > 0, row.filter, output};
}

}  // namespace

ValuesToRow::ValuesToRow(const RowSpec& row, PixelType type) : row_(row), type_(type), writer_(writer_of(row, type)) {
  check(row);
  if (!row.antialias && row.filter != Filter::nearest) {
    throw Error(Reason::value, "arrays of values are resized with antialiasing");
  }
}

RowResult ValuesToRow::convert(const ConstImageView& image, uint8_t* out) {
  if (image.channels != row_.decode.channels) {
    throw Error(Reason::value, "expected an image of " + std::to_string(row_.decode.channels) + " channels, found " +
                                   std::to_string(image.channels));
  }
  if (image.width < 1 || image.height < 1) throw Error(Reason::shape, "the image has no pixels");
  const RowGeometry to = fitting_geometry(row_, image.width, image.height);
  Geometry geometry{{0, 0, image.width, image.height}, {to.height, to.width}, to.part};
  if (!geometry.resizes()) {  // the part is cut out
    geometry.box = to.part;
    geometry.resized = to.part.size();
    geometry.part = {0, 0, to.part.width(), to.part.height()};
  }
  writer_.write(image.part(geometry.box), geometry.box, geometry, out, scratch_);
  return {image.width, image.height};
}

}  // namespace lds
