#include "loading/gather.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "common/error.h"

namespace lds {
namespace {

// Batches of at least this many bytes do not stay in the caches until they are read: write them with streaming stores.
constexpr int64_t kStreamBytes = int64_t{4} << 20;
// Number of rows of a batch that are probed for residency in the page cache. Each probe is a system call.
constexpr int64_t kResidencyProbes = 16;
// After a page-cache miss, probe every row for this many batches before sampling again.
constexpr int kProbeAllBatches = 64;

}  // namespace

Gather::Gather(std::shared_ptr<const RowSource> rows, const GatherSpec& spec)
    : rows_(std::move(rows)), spec_(spec), writer_(spec.images, spec.augment, spec.output) {
  if (spec.variants < 1 || rows_->size() % spec.variants != 0) {
    throw Error(Reason::value, std::to_string(rows_->size()) + " rows are not a multiple of " +
                                   std::to_string(spec.variants) + " variants");
  }
}

std::unique_ptr<Gather::Scratch> Gather::acquire_scratch() const {
  IdleScratches& idle = idle_.get();
  {
    const std::lock_guard<std::mutex> lock(idle.mutex);
    if (!idle.scratches.empty()) {
      auto scratch = std::move(idle.scratches.back());
      idle.scratches.pop_back();
      return scratch;
    }
  }
  auto scratch = std::make_unique<Scratch>();
  scratch->reader = make_image_reader(spec_.images);
  return scratch;
}

void Gather::release_scratch(std::unique_ptr<Scratch> scratch) const {
  IdleScratches& idle = idle_.get();
  const std::lock_guard<std::mutex> lock(idle.mutex);
  try {
    idle.scratches.push_back(std::move(scratch));
  } catch (const std::bad_alloc&) {
    return;  // the batch is complete, and the next one creates another scratch
  }
}

// Draws the sample's variant, so call it before draw_geometry().
int64_t Gather::row_of(int64_t index, uint64_t epoch, SampleRandom& random) const {
  if (spec_.variants == 1) return index;
  if (spec_.variant_choice == VariantChoice::draw) return index * spec_.variants + random.below(spec_.variants);
  return index * spec_.variants + static_cast<int64_t>(epoch % static_cast<uint64_t>(spec_.variants));
}

int64_t Gather::read_ahead(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed,
                           uint64_t epoch) const noexcept {
  if (keys == nullptr) keys = indices;
  const auto row = [&](int64_t i) {
    SampleRandom random(seed, epoch, static_cast<uint64_t>(keys[i]));
    return row_of(indices[i], epoch, random);
  };
  const bool probe_all = cold_batches_.load(std::memory_order_relaxed) > 0;
  const int64_t step = probe_all ? 1 : std::max<int64_t>(1, n / kResidencyProbes);
  bool cold = false;
  for (int64_t i = 0; i < n && !cold; i += step) cold = !rows_->resident(row(i));
  if (!cold) {
    if (probe_all) cold_batches_.fetch_sub(1, std::memory_order_relaxed);
    return 0;
  }
  cold_batches_.store(kProbeAllBatches, std::memory_order_relaxed);
  int64_t requested = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t needed = row(i);
    requested += rows_->will_need(&needed, 1);
  }
  return requested;
}

void Gather::check_indices(const int64_t* indices, int64_t n) const {
  const int64_t count = samples();
  for (int64_t i = 0; i < n; ++i) {
    if (indices[i] < 0 || indices[i] >= count) {
      throw Error(Reason::index, "row " + std::to_string(indices[i]) + " is outside the store's " +
                                     std::to_string(count) + " rows; expected 0 to " + std::to_string(count - 1));
    }
  }
}

void Gather::run(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed, uint64_t epoch, void* out,
                 ThreadPool& pool) const {
  if (keys == nullptr) keys = indices;
  check_indices(indices, n);
  const int64_t bytes = sample_bytes();
  const bool stream = n * bytes >= kStreamBytes;
  const int64_t grain = std::max<int64_t>(1, n / (int64_t{pool.size()} * 8));
  pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int) {
    auto scratch = acquire_scratch();
    ImageReader& image = *scratch->reader;
    for (int64_t i = begin; i < end; ++i) {
      SampleRandom random(seed, epoch, static_cast<uint64_t>(keys[i]));
      const ImageSize size = image.open(rows_->row(row_of(indices[i], epoch, random)));
      const Geometry geometry = draw_geometry(spec_.augment, size, random);
      writer_.write(image.read(geometry.inside(size)), geometry, static_cast<uint8_t*>(out) + i * bytes, stream,
                    scratch->sample);
    }
    if (stream) finish_stream();
    release_scratch(std::move(scratch));
  });
}

}  // namespace lds
