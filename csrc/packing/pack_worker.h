// What one thread of a Packer does with one image, and what it keeps between images.
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
#include "store/image_reader.h"
#include "transform/sample_writer.h"

namespace lds {

// Adds the seconds for which it lives to a sum.
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
  // The spec must outlive the worker. While `stop` is set, an image is given up in its middle.
  // Error(Reason::value) for a spec that makes no sense.
  explicit PackWorker(const PackSpec& spec, const std::atomic<bool>* stop = nullptr);

  int64_t bytes() const noexcept { return bytes_; }  // stored for one image
  PackClock& clock() noexcept { return clock_; }

  // A buffer for the stored bytes of so many images.
  uint8_t* buffer(int64_t images);

  // Writes the image's stored bytes. Where the image itself fails, that is recorded under its `index`, and `out` is
  // unspecified.
  PackedRow pack(const PackItem& item, int64_t index, int64_t sample, uint8_t* out);

  // Moves failures and sums into the result of the job.
  void flush_into(PackResult& result);

 private:
  std::string_view encoded(const PackItem& item);
  void read_part(const PackItem& item);
  RowResult decode(const PackItem& item, uint8_t* out);
  RowResult from_pixels(const ConstImageView& pixels, uint8_t* out);
  void decode_only(const PackItem& item);
  void write_sample(const uint8_t* image, int64_t sample, uint8_t* out);
  void augment(const uint8_t* image, int variant, int64_t sample, uint8_t* out);
  void convert(const uint8_t* values, uint8_t* out) const;

  const PackSpec& spec_;
  ImageToRow image_to_row_;
  std::optional<SampleWriter> augment_;
  std::unique_ptr<ImageReader> decoded_;  // of image_, for augment_
  SampleScratch scratch_;
  int64_t pixels_, values_, bytes_;  // pixels and values of one stored variant; bytes of all variants
  FileBytes file_;
  struct Archive {
    explicit Archive(const std::string& name) : path(name), file(name) {}
    std::string path;
    File file;
  };
  std::optional<Archive> archive_;  // whose parts are being read
  std::vector<uint8_t> part_, image_, augmented_, buffer_;
  ChannelSums sums_;
  PackClock clock_;
  std::vector<PackFailure> failures_;
};

}  // namespace lds
