// Packs images on one thread of a Packer, and keeps the thread's buffers, sums and failures.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/file.h"
#include "common/file_bytes.h"
#include "packing/pack_spec.h"
#include "packing/picture_to_png.h"
#include "packing/values_to_row.h"
#include "store/image_reader.h"
#include "transform/sample_writer.h"

namespace lds {

// Adds the seconds of its lifetime to a sum.
class PhaseTimer {
 public:
  explicit PhaseTimer(double& sum) : sum_(sum), start_(std::chrono::steady_clock::now()) {}
  ~PhaseTimer() { sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  double& sum_;
  std::chrono::steady_clock::time_point start_;
};

struct PackedRow {
  int width = 0, height = 0;
  uint64_t hash = 0;
};

class PackWorker {
 public:
  // The spec must outlive the worker. When `stop` becomes true, pack() stops within the image. Error(Reason::value) for
  // an invalid spec.
  explicit PackWorker(const PackSpec& spec, const std::atomic<bool>* stop = nullptr);

  int64_t bytes() const noexcept { return bytes_; }  // stored bytes per image
  PackClock& clock() noexcept { return clock_; }

  // A buffer for the stored bytes of this many images.
  uint8_t* buffer(int64_t images);

  // Writes the stored bytes of an image. If the image can't be packed, the failure is recorded with its `index`, and
  // the contents of `out` are unspecified.
  PackedRow pack(const PackItem& item, int64_t index, int64_t sample, uint8_t* out);

  // Appends the file of an image, if the spec's rows are files, and sets the entries `index` of the result. A failure
  // is recorded, and appends nothing.
  void pack_file(const PackItem& item, int64_t index, int64_t sample, std::vector<uint8_t>& out, PackResult& result);

  // A buffer for rows that are files.
  std::vector<uint8_t>& files() noexcept { return files_; }

  // Moves the failures and sums to the result of the job.
  void flush_into(PackResult& result);

 private:
  std::string_view encoded(const PackItem& item);
  void read_part(const PackItem& item);
  RowResult decode(const PackItem& item, uint8_t* out);
  JpegRow to_file(const PackItem& item, bool measure, std::vector<uint8_t>& out, int64_t& source_bytes);
  ConstImageView interleaved(const ConstImageView& pixels);
  RowResult from_pixels(const ConstImageView& pixels, uint8_t* out);
  RowResult from_values(const PackItem& item, uint8_t* out);
  RowResult write_row(const PackItem& item, int64_t sample, uint8_t* out);
  void decode_only(const PackItem& item);
  void write_sample(const uint8_t* image, int64_t sample, uint8_t* out);
  struct Augmentation {
    AugmentSpec spec;
    SampleWriter writer;
    std::unique_ptr<ImageReader> reader;  // of image_
  };
  void augment(Augmentation& augmentation, int variant, int64_t sample, uint8_t* out);
  void convert(const uint8_t* values, uint8_t* out) const;

  const PackSpec& spec_;
  std::unique_ptr<ImageToRow> image_to_row_;    // of images that become 8-bit colours or grey
  std::unique_ptr<ValuesToRow> values_to_row_;  // of the others
  std::optional<ImageToJpeg> image_to_jpeg_;
  std::optional<PictureToPng> picture_to_png_;
  std::optional<Augmentation> augmentation_;
  SampleScratch scratch_;
  int64_t pixels_, values_, bytes_;  // pixels and values of one stored variant; bytes of all variants
  FileBytes file_;
  struct Archive {
    explicit Archive(const std::string& name) : path(name), file(name) {}
    std::string path;
    File file;
  };
  std::optional<Archive> archive_;  // the file whose parts are being read
  std::vector<uint8_t> part_, image_, augmented_, buffer_, files_;
  ChannelSums sums_;
  PackClock clock_;
  std::vector<PackFailure> failures_;
};

}  // namespace lds
