// Converts an image that is an array of values to a row of the store: resizes and centre-crops it as ImageToRow does,
// and keeps the type of its values.
#pragma once

#include "packing/image_to_row.h"
#include "transform/wide_sample_writer.h"

namespace lds {

// Not thread-safe: use one per thread.
class ValuesToRow {
 public:
  // `row` counts up to its layout, and decode.channels, which may be up to 32. Error(Reason::value) for an invalid
  // spec.
  ValuesToRow(const RowSpec& row, PixelType type);

  PixelType type() const noexcept { return type_; }  // of the values

  // Writes the row of an image whose values have this type, interleaved or planar.
  RowResult convert(const ConstImageView& image, uint8_t* out);

 private:
  RowSpec row_;
  PixelType type_;
  WideSampleWriter writer_;
  WideScratch scratch_;
};

}  // namespace lds
