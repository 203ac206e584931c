// Makes a batch from rows of a store. Each row is read, cropped, flipped, resized, normalised and laid out in one pass.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/fork_local.h"
#include "common/thread_pool.h"
#include "store/image_reader.h"
#include "transform/sample_writer.h"

namespace lds {

enum class VariantChoice : uint8_t { draw, cycle };  // draw: random for each sample; cycle: epoch % variants

// What happens to a sample whose row can't be read.
struct DamageSpec {
  bool skip = false;  // use the next sample that can be read; else the batch fails
  // skip: the samples of which the next one is taken, sorted; empty: all
  std::vector<int64_t> candidates = {};
};

// One of the pictures of a sample: its image, or a mask.
struct Picture {
  std::shared_ptr<const RowSource> rows;
  ReadSpec read;
  OutputSpec output;
};

struct GatherSpec {
  std::vector<AugmentSpec> views = {AugmentSpec{}};  // each makes one view of a sample, with draws of its own
  int variants = 1;  // stored variants of each sample: variant v of sample i is row i * variants + v
  VariantChoice variant_choice = VariantChoice::draw;
  DamageSpec damage = {};
};

// The samples of a batch, and what their random draws depend on.
struct SampleList {
  const int64_t* indices = nullptr;
  // One for each sample; without them, the indices are the keys. An order that repeats samples has keys, so that each
  // repetition has draws of its own.
  const int64_t* keys = nullptr;
  int64_t n = 0;
  uint64_t seed = 0, epoch = 0;

  SampleRandom random(int64_t i, uint32_t view = 0) const noexcept {
    return {seed, epoch, static_cast<uint64_t>(keys == nullptr ? indices[i] : keys[i]), view};
  }
};

struct Replacement {
  int64_t position, sample;
  std::string damage;  // of the sample that is replaced
};

// Writes a batch in parts: for each view one part for each picture, which are cropped and flipped alike. Part
// `view * pictures + picture` has its images one after another. A row is read, and a JPEG row decoded, once for all
// views. Without views a batch has no parts, and only its samples' numbers are checked: the rows are read elsewhere.
// Immutable after construction and thread-safe.
class Gather {
 public:
  class BatchWriter;

  // The first picture is the image; the others have a row of the same size for each of its rows. Error(Reason::value).
  Gather(std::vector<Picture> pictures, GatherSpec spec);

  int64_t samples() const noexcept { return pictures_.front().rows->size() / spec_.variants; }  // in the store
  size_t parts() const noexcept { return writers_.size(); }
  const Picture& picture(size_t part) const noexcept { return pictures_[part % pictures_.size()]; }
  ImageSize sample_size(size_t part) const noexcept { return writers_[part].size(); }
  int64_t sample_bytes(size_t part) const noexcept { return writers_[part].bytes(); }

  // Asks the kernel to read the rows that run() will need and that are not in the page cache. Usually only some rows
  // are probed; after a cache miss, all rows are. Does not block. Returns the number of samples whose rows are
  // requested.
  int64_t read_ahead(const SampleList& samples) const noexcept;

  // Fills each of the parts. All indices are checked before anything is written. An Error names the row that can't be
  // read. Returns, for each damaged sample that another one replaced, its position in the batch and the other's index,
  // by position.
  std::vector<Replacement> run(const SampleList& samples, const std::vector<uint8_t*>& out, ThreadPool& pool) const;

  // How many samples of a batch of n a thread takes at a time, of so many threads.
  static int64_t grain(int64_t n, int threads) noexcept;

 private:
  // A thread's working memory, reused from batch to batch.
  struct Scratch {
    std::vector<std::unique_ptr<ImageReader>> readers;  // of each picture
    std::vector<Geometry> geometries;                   // of each view
    std::vector<BoxRequest> requests;
    SampleScratch sample;
  };
  // The scratches that no thread uses. A worker's last one waits in the worker's own slot, since much of it is in the
  // caches of that worker's processor; the others, of workers with the same slot, are in the list.
  struct IdleScratches {
    struct alignas(64) Slot {
      std::atomic<Scratch*> scratch{nullptr};
    };
    IdleScratches() = default;
    ~IdleScratches();
    IdleScratches(const IdleScratches&) = delete;
    IdleScratches& operator=(const IdleScratches&) = delete;

    std::array<Slot, 64> slots;
    std::mutex mutex;
    std::vector<std::unique_ptr<Scratch>> list;
  };
  // Where sample i of a batch is written.
  struct Destination {
    const std::vector<uint8_t*>& parts;
    bool stream;
  };
  std::unique_ptr<Scratch> acquire_scratch(int worker) const;
  void release_scratch(std::unique_ptr<Scratch> scratch, int worker) const;
  int64_t row_of(int64_t index, uint64_t epoch, SampleRandom& random) const;
  void check_size(ImageSize image) const;
  bool streams(int64_t n) const noexcept;  // whether a batch of n is too large for the caches
  void check_indices(const SampleList& samples) const;
  void write(const SampleList& samples, int64_t i, int64_t index, const Destination& out, Scratch& scratch) const;
  void write_views(size_t picture, ImageSize size, int64_t i, const Destination& out, Scratch& scratch) const;
  int64_t write_or_replace(const SampleList& samples, int64_t i, const Destination& out, Scratch& scratch,
                           std::string& damage) const;
  int64_t next_candidate(int64_t index) const noexcept;

  const std::vector<Picture> pictures_;
  const GatherSpec spec_;
  std::vector<SampleWriter> writers_;  // of each part
  ForkLocal<IdleScratches> idle_;
  mutable std::atomic<int> cold_batches_{0};  // number of further batches of which all rows are probed
};

// Writes one batch, some samples at a time, from any number of threads. The gather and what `samples` points to must
// outlive it.
class Gather::BatchWriter {
 public:
  // As Gather::run(); checks all indices.
  BatchWriter(const Gather& gather, const SampleList& samples, std::vector<uint8_t*> out);

  // Writes samples [begin, end) of the batch, by the working memory of this worker of a pool.
  void write(int64_t begin, int64_t end, int worker);

  // The replacements by position, once all samples are written.
  std::vector<Replacement> replaced();

 private:
  const Gather& gather_;
  const SampleList samples_;
  const std::vector<uint8_t*> out_;
  const Destination destination_;
  std::mutex mutex_;
  std::vector<Replacement> replaced_;
};

}  // namespace lds
