#include "store/image_reader.h"

#include <algorithm>
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

  ConstImageView read(const IntBox& box) override { return image_.part(box); }

  void resize(const IntBox& box, const ResizeSpec& spec, StreamingResizer& resizer, const ImageView& out) override {
    resizer.resize(read(box), spec, out);
  }

 private:
  const ImageLayout layout_;
  ConstImageView image_;
};

// Whether one reader of JPEG rows serves both sources.
bool share_reader(const ReadSpec& a, const ReadSpec& b) noexcept {
  return a.codec == Codec::jpeg && b.codec == Codec::jpeg && a.images.channels == b.images.channels &&
         a.scaled == b.scaled;
}

// Reads each image with the reader of the source that its row comes from. Sources of JPEG rows share one, whose tables
// and buffers then stay in the processor's caches.
class ConcatImageReader : public ImageReader {
 public:
  explicit ConcatImageReader(const std::vector<ReadSpec>& parts) {
    readers_.reserve(parts.size());
    for (size_t i = 0; i < parts.size(); ++i) readers_.push_back(reader_of(parts, i));
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
  // That of an earlier part, or a new one, which takes the largest image of all that will share it.
  std::shared_ptr<ImageReader> reader_of(const std::vector<ReadSpec>& parts, size_t number) const {
    ReadSpec spec = parts[number];
    for (size_t i = 0; i < number; ++i) {
      if (share_reader(parts[i], spec)) return readers_[i];
    }
    for (const ReadSpec& part : parts) {
      if (share_reader(part, spec)) spec.max_pixels = std::max(spec.max_pixels, part.max_pixels);
    }
    return make_image_reader(spec);
  }

  std::vector<std::shared_ptr<ImageReader>> readers_;
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
