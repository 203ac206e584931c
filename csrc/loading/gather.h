// Rows of the store -> one batch, in one pass: crop, flip, resize, normalise, layout.
#pragma once

#include <cstdint>
#include <memory>

#include "common/thread_pool.h"
#include "store/rows.h"
#include "transform/sample_spec.h"

namespace lds {

enum class VariantChoice : uint8_t { draw, cycle };  // by the sample's own draw, or epoch % variants

// Sample i's variant v is row i * variants + v.
struct GatherSpec : SampleSpec {
  int variants = 1;
  VariantChoice variant_choice = VariantChoice::draw;
};

// Immutable after construction; safe from several threads.
class Gather {
 public:
  Gather(std::shared_ptr<const Rows> rows, const GatherSpec& spec);  // Error(Reason::value)
  ~Gather();

  const GatherSpec& spec() const noexcept;
  const Rows& rows() const noexcept;
  int64_t samples() const noexcept;       // in the store: rows / variants
  int64_t sample_bytes() const noexcept;  // of one sample in the batch

  // Asks the kernel to read the rows that run() with the same arguments will touch and that are not in memory. Looks at
  // a few of them, and at all while some were missing lately. Does not wait, does not throw; the number of rows asked
  // for.
  int64_t read_ahead(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed,
                     uint64_t epoch) const noexcept;

  // Writes image i of the batch from sample indices[i]. Its random draws are (seed, epoch, keys[i]); keys are the
  // indices where there are none, so that an order that repeats a sample can give it other draws each time.
  // Every index is checked before anything is written.
  void run(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed, uint64_t epoch, void* out,
           ThreadPool& pool) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
