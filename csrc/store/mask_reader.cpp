#include "store/mask_reader.h"

#include "common/error.h"

namespace lds {

MaskReader::MaskReader(const ReadSpec& spec) : numbers_(1, static_cast<int>(pixel_bytes(spec.images.type))) {
  const PixelType type = spec.images.type;
  if (spec.images.channels != 1 || (type != PixelType::uint8 && type != PixelType::uint16)) {
    throw Error(Reason::value, "PNG rows have one channel of uint8 or uint16");
  }
  options_.mask = true;
  options_.channels = static_cast<int>(pixel_bytes(type));
  options_.exif_orientation = false;  // a pack writes upright masks
  if (spec.max_pixels > 0) options_.max_pixels = spec.max_pixels;
}

ImageSize MaskReader::open(const Extent& row) {
  const auto bytes = static_cast<size_t>(row.bytes);
  if (sniff_format(row.data, bytes) != Format::png) throw Error(Reason::corrupt, "the row is no PNG file");
  const ImageInfo info = decoder_.open(row.data, bytes, options_);
  holds_ = false;
  return {info.height, info.width};
}

void MaskReader::hold(const std::vector<BoxRequest>& requests) {
  IntBox all;
  for (const BoxRequest& request : requests) all = united(all, request.box);
  numbers_.decode(decoder_, all);
  holds_ = true;
}

ConstImageView MaskReader::read(const IntBox& box) {
  if (!holds_) numbers_.decode(decoder_, box);
  return numbers_.view(box);
}

void MaskReader::resize(const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer, const ImageView& out) {
  resizer.resize(read(box), spec, out);
}

}  // namespace lds
