#include "store/decoded_box.h"

#include <algorithm>
#include <cstring>

#include "common/kept_buffer.h"

namespace lds {
namespace {

class CopySink : public RowSink {
 public:
  CopySink(uint8_t* out, size_t row_bytes) : out_(out), row_bytes_(row_bytes) {}
  void push(const uint8_t* row) override {
    std::memcpy(out_, row, row_bytes_);
    out_ += row_bytes_;
  }

 private:
  uint8_t* out_;
  size_t row_bytes_;
};

}  // namespace

bool is_empty(const IntBox& box) noexcept { return box.width() < 1 || box.height() < 1; }

IntBox united(const IntBox& a, const IntBox& b) noexcept {
  if (is_empty(a) || is_empty(b)) return is_empty(a) ? b : a;
  return {std::min(a.x0, b.x0), std::min(a.y0, b.y0), std::max(a.x1, b.x1), std::max(a.y1, b.y1)};
}

void DecodedBox::decode(Decoder& decoder, const IntBox& box) {
  const size_t row_bytes =
      static_cast<size_t>(box.width()) * static_cast<size_t>(channels_) * static_cast<size_t>(value_bytes_);
  give_back_if_large(pixels_);
  pixels_.resize(std::max(pixels_.size(), row_bytes * static_cast<size_t>(box.height())));
  CopySink sink(pixels_.data(), row_bytes);
  box_ = box;
  if (!is_empty(box)) decoder.read(box, sink);
}

ConstImageView DecodedBox::view(const IntBox& box) const noexcept {
  ConstImageView view;
  view.width = box.width();
  view.height = box.height();
  view.channels = channels_;
  view.channel_stride = value_bytes_;
  view.pixel_stride = ptrdiff_t{channels_} * value_bytes_;
  view.row_stride = view.pixel_stride * box_.width();
  view.data = pixels_.data() + (box.y0 - box_.y0) * view.row_stride + (box.x0 - box_.x0) * view.pixel_stride;
  return view;
}

}  // namespace lds
