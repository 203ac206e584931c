#include "packing/pack_worker.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "common/error.h"
#include "common/kept_buffer.h"
#include "store/hash.h"

namespace lds {
namespace {

// Of these samples, what is encoded is compared with its pixels: each comparison takes a quarter of the time of
// encoding.
constexpr int64_t kMeasureEvery = 16;

template <class Value>
void map_values(const uint8_t* values, int64_t pixels, int channels, bool planar, const uint8_t* table, uint8_t* out) {
  Value entries[4][256];
  std::memcpy(entries, table, sizeof(Value) * 256 * static_cast<size_t>(channels));
  const int64_t pixel_step = planar ? 1 : channels;
  const int64_t channel_step = planar ? pixels : 1;
  for (int c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < pixels; ++i) {
      const int64_t at = c * channel_step + i * pixel_step;
      std::memcpy(out + at * static_cast<int64_t>(sizeof(Value)), &entries[c][values[at]], sizeof(Value));
    }
  }
}

// The first bytes of any other file are enough to reject it.
bool is_image(const uint8_t* head, size_t size) noexcept { return sniff_format(head, size) != Format::unknown; }

Error no_file_of_values() { return {Reason::unsupported, "the core reads no file of such values"}; }

void check_type(const PackItem& item, PixelType type) {
  if (item.type == type) return;
  throw Error(Reason::value,
              std::string("expected values of ") + pixel_type_name(type) + ", found " + pixel_type_name(item.type));
}

// ImageToRow and ValuesToRow check spec.row.
void check(const PackSpec& spec) {
  if (spec.variants < 1 || (spec.variants > 1 && !spec.augment)) {
    throw Error(Reason::value, "variants must be 1 without an augmentation, and at least 1 with one, found " +
                                   std::to_string(spec.variants));
  }
  if (spec.value_bytes != 1 && spec.value_bytes != 2 && spec.value_bytes != 4) {
    throw Error(Reason::value, "value_bytes must be 1, 2 or 4, found " + std::to_string(spec.value_bytes));
  }
  if (spec.values && (spec.augment || spec.jpeg || spec.value_bytes != pixel_bytes(*spec.values))) {
    throw Error(Reason::value, "arrays of values are stored as they are");
  }
  const int table_bytes = spec.values || spec.value_bytes == 1 ? 0 : spec.row.decode.channels * 256 * spec.value_bytes;
  if (spec.table.size() != static_cast<size_t>(table_bytes)) {
    throw Error(Reason::value, "table must have " + std::to_string(table_bytes) +
                                   " bytes (256 values per channel, none " + "for uint8), found " +
                                   std::to_string(spec.table.size()));
  }
}

}  // namespace

PackWorker::PackWorker(const PackSpec& spec, const std::atomic<bool>* stop) : spec_(spec) {
  check(spec);
  if (spec.values && !spec.png) {
    values_to_row_ = std::make_unique<ValuesToRow>(spec.row, *spec.values);
  } else {
    image_to_row_ = std::make_unique<ImageToRow>(spec.row);
    image_to_row_->set_stop_flag(stop);
  }
  if (spec.jpeg) {
    image_to_jpeg_.emplace(spec.row, *spec.jpeg);
    image_to_jpeg_->set_stop_flag(stop);
  } else if (spec.png) {
    picture_to_png_.emplace(spec.row);
    picture_to_png_->set_stop_flag(stop);
  }
  const RowSpec& row = spec.row;
  pixels_ = int64_t{row.out_h} * row.out_w;
  if (!spec.values) image_.resize(static_cast<size_t>(pixels_ * row.decode.channels));
  if (spec.augment) {
    const ImageLayout layout{row.decode.channels, {row.out_h, row.out_w}, row.planar, PixelType::uint8};
    const SampleWriter writer(layout, *spec.augment, {row.planar, PixelType::uint8});
    pixels_ = int64_t{writer.size().height} * writer.size().width;
    ReadSpec pixels;
    pixels.images = layout;
    augmentation_.emplace(Augmentation{*spec.augment, writer, make_image_reader(pixels)});
  }
  values_ = pixels_ * row.decode.channels;
  bytes_ = values_ * spec.variants * spec.value_bytes;
  if (spec.augment) augmented_.resize(static_cast<size_t>(values_));
}

uint8_t* PackWorker::buffer(int64_t images) {
  const auto bytes = static_cast<size_t>(images * bytes_);
  if (buffer_.size() < bytes) buffer_.resize(bytes);
  return buffer_.data();
}

// The encoded image, read from its file if necessary.
std::string_view PackWorker::encoded(const PackItem& item) {
  if (item.path.empty()) return item.bytes;
  const PhaseTimer timer(clock_.read);
  std::string_view bytes;
  if (item.length < 0) {
    file_.read(item.path, &is_image);
    bytes = {reinterpret_cast<const char*>(file_.data()), file_.size()};
  } else {
    read_part(item);
    bytes = {reinterpret_cast<const char*>(part_.data()), part_.size()};
  }
  clock_.bytes_read += static_cast<int64_t>(bytes.size());
  return bytes;
}

// The archive stays open, because the next image is probably in it, too.
void PackWorker::read_part(const PackItem& item) {
  check_file_bytes(item.path, item.length);
  if (!archive_ || archive_->path != item.path) archive_.emplace(item.path);
  give_back_if_large(part_);
  const int64_t head = std::min(item.length, FileBytes::kHeadBytes);
  part_.resize(static_cast<size_t>(head));
  archive_->file.read_exactly(part_.data(), head, item.offset, Reason::truncated);
  if (head == item.length || !is_image(part_.data(), part_.size())) return;
  part_.resize(static_cast<size_t>(item.length));
  archive_->file.read_exactly(part_.data() + head, item.length - head, item.offset + head, Reason::truncated);
}

RowResult PackWorker::decode(const PackItem& item, uint8_t* out) {
  if (item.pixels.data != nullptr) {
    check_type(item, PixelType::uint8);
    return from_pixels(item.pixels, out);
  }
  const std::string_view bytes = encoded(item);
  return image_to_row_->convert(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), out);
}

RowResult PackWorker::from_pixels(const ConstImageView& pixels, uint8_t* out) {
  const RowSpec& row = spec_.row;
  const bool unchanged = row.resize_h == 0 && row.crop_h == 0 && row.crop_w == 0 && pixels.height == row.out_h &&
                         pixels.width == row.out_w && pixels.channels == row.decode.channels;
  if (unchanged) {
    copy_pixels(pixels, row.planar, scratch_.reader, out);
    return {pixels.width, pixels.height};
  }
  return image_to_row_->convert_pixels(interleaved(pixels), out);
}

ConstImageView PackWorker::interleaved(const ConstImageView& pixels) {
  if (pixels.pixel_stride == pixels.channels) return pixels;
  give_back_if_large(part_);
  part_.resize(static_cast<size_t>(pixels.height) * static_cast<size_t>(pixels.width) *
               static_cast<size_t>(pixels.channels));
  copy_pixels(pixels, false, scratch_.reader, part_.data());
  return ConstImageView::hwc(part_.data(), pixels.height, pixels.width, pixels.channels);
}

JpegRow PackWorker::to_file(const PackItem& item, bool measure, std::vector<uint8_t>& out, int64_t& source_bytes) {
  PictureToPng* const pictures = picture_to_png_ ? &*picture_to_png_ : nullptr;
  ImageToJpeg* const images = image_to_jpeg_ ? &*image_to_jpeg_ : nullptr;
  if (pictures == nullptr && images == nullptr)
    throw Error(Reason::internal, "to_file() of a worker for rows of pixels");
  if (spec_.values && item.pixels.data == nullptr) throw no_file_of_values();
  if (item.pixels.data != nullptr) {
    check_type(item, spec_.values.value_or(PixelType::uint8));
    source_bytes = int64_t{item.pixels.width} * item.pixels.height * item.pixels.channels * pixel_bytes(item.type);
    if (spec_.values && pictures != nullptr) return pictures->convert_values(item.pixels, item.type, out);
    const ConstImageView pixels = interleaved(item.pixels);
    return pictures != nullptr ? pictures->convert_pixels(pixels, out) : images->convert_pixels(pixels, measure, out);
  }
  const std::string_view bytes = encoded(item);
  source_bytes = static_cast<int64_t>(bytes.size());
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  return pictures != nullptr ? pictures->convert(data, bytes.size(), out)
                             : images->convert(data, bytes.size(), measure, out);
}

void PackWorker::pack_file(const PackItem& item, int64_t index, int64_t sample, std::vector<uint8_t>& out,
                           PackResult& result) {
  const double read = clock_.read;
  const auto at = static_cast<size_t>(index);
  const size_t before = out.size();
  {
    const PhaseTimer timer(clock_.decode);
    try {
      const JpegRow row = to_file(item, sample % kMeasureEvery == 0, out, result.jpeg.source_bytes[at]);
      result.widths[at] = row.source_width;
      result.heights[at] = row.source_height;
      result.hashes[at] = hash_bytes(out.data() + before, static_cast<int64_t>(out.size() - before));
      result.jpeg.kept[at] = static_cast<uint8_t>(row.kept);
      result.jpeg.bytes[at] = static_cast<int64_t>(out.size() - before);
      result.jpeg.heights[at] = static_cast<uint16_t>(row.height);
      result.jpeg.widths[at] = static_cast<uint16_t>(row.width);
      result.jpeg.orientations[at] = static_cast<uint8_t>(row.orientation);
      result.jpeg.psnr[at] = row.psnr;
    } catch (const Error& error) {
      out.resize(before);
      failures_.push_back({index, error.reason(), error.what()});
    } catch (const std::bad_alloc&) {
      out.resize(before);
      failures_.push_back({index, Reason::too_large, "out of memory"});
    }
  }
  clock_.decode -= clock_.read - read;  // the timer included reading
}

PackedRow PackWorker::pack(const PackItem& item, int64_t index, int64_t sample, uint8_t* out) {
  const double read = clock_.read;
  PackedRow row;
  {
    const PhaseTimer timer(clock_.decode);
    try {
      if (spec_.work != PackWork::rows) {
        decode_only(item);
        return row;
      }
      const RowResult result = write_row(item, sample, out);
      row = {result.width, result.height, hash_bytes(out, bytes_)};
    } catch (const Error& error) {
      failures_.push_back({index, error.reason(), error.what()});
    } catch (const std::bad_alloc&) {
      failures_.push_back({index, Reason::too_large, "out of memory"});
    }
  }
  clock_.decode -= clock_.read - read;  // the timer included reading
  return row;
}

RowResult PackWorker::write_row(const PackItem& item, int64_t sample, uint8_t* out) {
  if (values_to_row_) return from_values(item, out);
  const bool direct = !augmentation_ && spec_.table.empty();
  uint8_t* const image = direct ? out : image_.data();
  const RowResult result = decode(item, image);
  write_sample(image, sample, out);
  return result;
}

RowResult PackWorker::from_values(const PackItem& item, uint8_t* out) {
  if (item.pixels.data == nullptr) throw no_file_of_values();
  check_type(item, values_to_row_->type());
  return values_to_row_->convert(item.pixels, out);
}

void PackWorker::decode_only(const PackItem& item) {
  const std::string_view bytes = encoded(item);
  image_to_row_->decode_only(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
                             spec_.work == PackWork::decode_whole, image_.data());
}

void PackWorker::write_sample(const uint8_t* image, int64_t sample, uint8_t* out) {
  const int channels = spec_.row.decode.channels;
  for (int variant = 0; variant < spec_.variants; ++variant) {
    uint8_t* stored = out + variant * values_ * spec_.value_bytes;
    const uint8_t* values = image;
    if (augmentation_) {
      uint8_t* augmented = spec_.table.empty() ? stored : augmented_.data();
      augment(*augmentation_, variant, sample, augmented);
      values = augmented;
    }
    sums_.add(values, pixels_, channels, spec_.row.planar);
    convert(values, stored);
  }
}

// Gives the same pixels as a Gather for this sample in epoch `variant`.
void PackWorker::augment(Augmentation& augmentation, int variant, int64_t sample, uint8_t* out) {
  SampleRandom random(spec_.seed, static_cast<uint64_t>(variant), static_cast<uint64_t>(sample));
  ImageReader& reader = *augmentation.reader;
  const ImageSize size = reader.open({image_.data(), static_cast<int64_t>(image_.size())});
  const Geometry geometry = draw_geometry(augmentation.spec, size, random);
  augmentation.writer.write(reader, size, geometry, out, false, scratch_);
}

void PackWorker::convert(const uint8_t* values, uint8_t* out) const {
  const int channels = spec_.row.decode.channels;
  if (spec_.value_bytes == 2)
    map_values<uint16_t>(values, pixels_, channels, spec_.row.planar, spec_.table.data(), out);
  if (spec_.value_bytes == 4)
    map_values<uint32_t>(values, pixels_, channels, spec_.row.planar, spec_.table.data(), out);
}

void PackWorker::flush_into(PackResult& result) {
  std::move(failures_.begin(), failures_.end(), std::back_inserter(result.failures));
  failures_.clear();
  result.sums.add(std::exchange(sums_, {}));
}

}  // namespace lds
