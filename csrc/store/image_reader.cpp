#include "store/image_reader.h"

#include <string>

#include "common/error.h"
#include "store/jpeg_image_reader.h"
#include "store/mask_reader.h"

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

  void hold(const std::vector<BoxRequest>& /*requests*/) override {}  // the row is in memory

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

// Reads each image with the reader of the source that its row comes from.
class ConcatImageReader : public ImageReader {
 public:
  explicit ConcatImageReader(const std::vector<ReadSpec>& parts) {
    for (const ReadSpec& part : parts) readers_.push_back(make_image_reader(part));
  }

  ImageSize open(const Extent& row) override {
    opened_ = readers_.at(static_cast<size_t>(row.part)).get();
    return opened_->open(row);
  }

  void hold(const std::vector<BoxRequest>& requests) override { opened_->hold(requests); }

  ConstImageView read(const IntBox& box) override { return opened_->read(box); }

  void resize(const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer, const ImageView& out) override {
    opened_->resize(box, spec, resizer, out);
  }

 private:
  std::vector<std::unique_ptr<ImageReader>> readers_;
  ImageReader* opened_ = nullptr;
};

}  // namespace

std::unique_ptr<ImageReader> make_image_reader(const ReadSpec& spec) {
  if (!spec.parts.empty()) return std::make_unique<ConcatImageReader>(spec.parts);
  if (spec.codec == Codec::png) return std::make_unique<MaskReader>(spec);
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
