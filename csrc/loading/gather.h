// Makes a batch from rows of a store. Each row is read, cropped, flipped, resized, normalised and laid out in one pass.
#pragma once

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

struct GatherSpec {
  ReadSpec read;
  AugmentSpec augment;
  OutputSpec output;
  int variants = 1;  // stored variants of each sample: variant v of sample i is row i * variants + v
  VariantChoice variant_choice = VariantChoice::draw;
  DamageSpec damage = {};
};

struct Replacement {
  int64_t position, sample;
  std::string damage;  // of the sample that is replaced
};

// Immutable after construction and thread-safe.
class Gather {
 public:
  Gather(std::shared_ptr<const RowSource> rows, const GatherSpec& spec);  // Error(Reason::value)

  const GatherSpec& spec() const noexcept { return spec_; }
  int64_t samples() const noexcept { return rows_->size() / spec_.variants; }  // in the store
  ImageSize sample_size() const noexcept { return writer_.size(); }            // in a batch
  int64_t sample_bytes() const noexcept { return writer_.bytes(); }

  // Asks the kernel to read the rows that run() will need for the same arguments and that are not in the page cache.
  // Usually only some rows are probed; after a cache miss, all rows are. Does not block. Returns the number of rows
  // requested.
  int64_t read_ahead(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed,
                     uint64_t epoch) const noexcept;

  // Writes image i of the batch from sample indices[i], with the random draws of (seed, epoch, keys[i]). Without keys,
  // the indices are the keys. An order that repeats samples passes keys, so that each repetition has draws of its own.
  // All indices are checked before anything is written. An Error names the row that can't be read. Returns, for each
  // damaged sample that another one replaced, its position in the batch and the other's index, by position.
  std::vector<Replacement> run(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed, uint64_t epoch,
                               void* out, ThreadPool& pool) const;

 private:
  // A thread's working memory, reused from batch to batch.
  struct Scratch {
    std::unique_ptr<ImageReader> reader;
    SampleScratch sample;
  };
  struct IdleScratches {
    std::mutex mutex;
    std::vector<std::unique_ptr<Scratch>> scratches;
  };
  std::unique_ptr<Scratch> acquire_scratch() const;
  void release_scratch(std::unique_ptr<Scratch> scratch) const;
  int64_t row_of(int64_t index, uint64_t epoch, SampleRandom& random) const;
  void write(int64_t index, int64_t key, uint64_t seed, uint64_t epoch, uint8_t* out, bool stream,
             Scratch& scratch) const;
  int64_t write_or_replace(int64_t index, int64_t key, uint64_t seed, uint64_t epoch, uint8_t* out, bool stream,
                           Scratch& scratch, std::string& damage) const;
  int64_t next_candidate(int64_t index) const noexcept;
  void check_size(ImageSize image) const;
  void check_indices(const int64_t* indices, int64_t n) const;

  const std::shared_ptr<const RowSource> rows_;
  const GatherSpec spec_;
  const SampleWriter writer_;
  ForkLocal<IdleScratches> idle_;
  mutable std::atomic<int> cold_batches_{0};  // number of further batches of which all rows are probed
};

}  // namespace lds
