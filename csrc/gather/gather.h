// Rows of the store -> one batch, in one pass: crop, flip, resize, normalise, layout.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "common/thread_pool.h"
#include "convert/convert.h"
#include "resize/resize.h"
#include "store/rows.h"

namespace lds {

enum class VariantChoice : uint8_t { draw, cycle };  // by the sample's own draw, or epoch % variants

enum class CropMode : uint8_t {
  none,            // the whole row
  center,          // torchvision's center_crop
  random,          // uniform position, after zero padding by `padding` on each side
  random_resized,  // torchvision's RandomResizedCrop: scale, ratio, ten tries, then a centre crop
};

struct GatherSpec {
  // the store's rows
  int channels = 3, height = 0, width = 0;
  bool planar_rows = true;                // CHW rows, else HWC
  PixelType row_type = PixelType::uint8;  // uint8; floats pass through, without resizing
  // the batch
  int out_height = 0, out_width = 0;
  bool planar_out = true;  // contiguous NCHW, else channels_last (NHWC in memory)
  PixelType out_type = PixelType::float32;
  // what happens on the way; sample i's variant v is row i * variants + v
  int variants = 1;
  VariantChoice variant_choice = VariantChoice::draw;
  CropMode crop = CropMode::none;
  int padding = 0;
  double scale[2] = {0.08, 1.0}, ratio[2] = {3.0 / 4.0, 4.0 / 3.0};
  double flip = 0.0;  // probability of a horizontal flip
  // float output = uint8 * multiply[c] + add[c]; the caller folds 1/255, mean and std into these.
  // Padding is uint8 0 before that, so add[c] is also what pads rows that are floats already.
  std::array<float, 4> multiply{{1.0f / 255, 1.0f / 255, 1.0f / 255, 1.0f / 255}};
  std::array<float, 4> add{{0, 0, 0, 0}};
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
