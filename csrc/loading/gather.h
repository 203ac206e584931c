// Rows of a store -> one batch, in one pass: crop, flip, resize, normalise, layout.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "common/fork_local.h"
#include "common/thread_pool.h"
#include "store/image_reader.h"
#include "transform/sample_writer.h"

namespace lds {

enum class VariantChoice : uint8_t { draw, cycle };  // by the sample's own draw, or epoch % variants

struct GatherSpec {
  ImageLayout images;  // as rows hold them
  AugmentSpec augment;
  OutputSpec output;
  int variants = 1;  // of each sample: variant v of sample i is row i * variants + v
  VariantChoice variant_choice = VariantChoice::draw;
};

// Immutable after construction; safe from several threads.
class Gather {
 public:
  Gather(std::shared_ptr<const RowSource> rows, const GatherSpec& spec);  // Error(Reason::value)

  const GatherSpec& spec() const noexcept { return spec_; }
  int64_t samples() const noexcept { return rows_->size() / spec_.variants; }  // in the store
  ImageSize sample_size() const noexcept { return writer_.size(); }            // in a batch
  int64_t sample_bytes() const noexcept { return writer_.bytes(); }

  // Asks the kernel to read those rows that run() with the same arguments will touch and that are not in memory. Probes
  // a few of them, and all while some were missing recently. Neither waits nor throws; returns the number of rows asked
  // for.
  int64_t read_ahead(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed,
                     uint64_t epoch) const noexcept;

  // Writes image i of the batch from sample indices[i]. Its random draws are (seed, epoch, keys[i]); keys are the
  // indices where there are none, so that an order that repeats a sample can give it other draws each time.
  // Every index is checked before anything is written.
  void run(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed, uint64_t epoch, void* out,
           ThreadPool& pool) const;

 private:
  // What a thread works with. Kept between batches.
  struct Scratch {
    std::unique_ptr<ImageReader> reader;
    SampleScratch sample;
  };
  struct IdleScratches {
    std::mutex mutex;
    std::vector<std::unique_ptr<Scratch>> scratches;
  };
  std::unique_ptr<Scratch> take_scratch() const;
  void give_back(std::unique_ptr<Scratch> scratch) const;
  int64_t row_of(int64_t index, uint64_t epoch, SampleRandom& random) const;
  void check_indices(const int64_t* indices, int64_t n) const;

  const std::shared_ptr<const RowSource> rows_;
  const GatherSpec spec_;
  const SampleWriter writer_;
  ForkLocal<IdleScratches> idle_;
  mutable std::atomic<int> cold_batches_{0};  // so many more batches are probed row by row
};

}  // namespace lds
