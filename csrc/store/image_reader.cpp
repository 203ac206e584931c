#include "store/image_reader.h"

#include <string>

#include "common/error.h"
#include "store/jpeg_image_reader.h"

namespace lds {
namespace {

class RawImageReader : public ImageReader {
 public:
  explicit RawImageReader(const ImageLayout& layout) noexcept : layout_(layout) {}

  ImageSize open(const Extent& row) override {
    check_row_bytes(layout_, row.bytes);
    image_ = layout_.view(row.data);
    return layout_.size;
  }

  ConstImageView read(const IntBox& box) override {
    ConstImageView part = image_;
    part.data += box.y0 * image_.row_stride + box.x0 * image_.pixel_stride;
    part.width = box.width();
    part.height = box.height();
    return part;
  }

  void resize(const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer, const ImageView& out) override {
    resizer.resize(read(box), spec, out);
  }

 private:
  const ImageLayout layout_;
  ConstImageView image_;
};

}  // namespace

std::unique_ptr<ImageReader> make_image_reader(const ReadSpec& spec) {
  if (spec.codec == Codec::jpeg) return std::make_unique<JpegImageReader>(spec);
  return std::make_unique<RawImageReader>(spec.images);
}

void check_row_bytes(const ImageLayout& layout, int64_t bytes) {
  if (bytes == layout.bytes()) return;
  throw Error(Reason::value, "rows of " + std::to_string(bytes) + " bytes hold no images of " +
                                 std::to_string(layout.channels) + "x" + std::to_string(layout.size.height) + "x" +
                                 std::to_string(layout.size.width));
}

}  // namespace lds
