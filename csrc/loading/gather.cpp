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
// Number of samples that are tried in the place of a damaged one.
constexpr int kMaxReplacements = 1000;

}  // namespace

Gather::Gather(std::shared_ptr<const RowSource> rows, const GatherSpec& spec)
    : rows_(std::move(rows)), spec_(spec), writer_(spec.read.images, spec.augment, spec.output) {
  make_image_reader(spec.read);  // checks the spec
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
  scratch->reader = make_image_reader(spec_.read);
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

void Gather::write(int64_t index, int64_t key, uint64_t seed, uint64_t epoch, uint8_t* out, bool stream,
                   Scratch& scratch) const {
  SampleRandom random(seed, epoch, static_cast<uint64_t>(key));
  with_row(*rows_, row_of(index, epoch, random), [&](const Extent& row) {
    ImageReader& image = *scratch.reader;
    const ImageSize size = image.open(row);
    check_size(size);
    writer_.write(image, size, draw_geometry(spec_.augment, size, random), out, stream, scratch.sample);
  });
}

// The options were checked for the sizes that the store claims, and the writer made for them.
void Gather::check_size(ImageSize image) const {
  const ImageSize& least = spec_.read.images.size;
  const bool fits = spec_.augment.crop == CropMode::none ? image == least
                                                         : image.height >= least.height && image.width >= least.width;
  if (fits) return;
  throw Error(Reason::store, "the image has " + std::to_string(image.height) + "x" + std::to_string(image.width) +
                                 " pixels, and the manifest says " + std::to_string(least.height) + "x" +
                                 std::to_string(least.width) + " or more");
}

// The sample after this one, in the order of the candidates and then again from their start.
int64_t Gather::next_candidate(int64_t index) const noexcept {
  const std::vector<int64_t>& candidates = spec_.damage.candidates;
  if (candidates.empty()) return (index + 1) % samples();
  const auto after = std::upper_bound(candidates.begin(), candidates.end(), index);
  return after == candidates.end() ? candidates.front() : *after;
}

// Returns the index of the sample that was written.
int64_t Gather::write_or_replace(int64_t index, int64_t key, uint64_t seed, uint64_t epoch, uint8_t* out, bool stream,
                                 Scratch& scratch, std::string& damage) const {
  int64_t sample = index;
  for (int attempt = 0;; ++attempt) {
    try {
      write(sample, key, seed, epoch, out, stream, scratch);
      return sample;
    } catch (const Error& error) {
      sample = next_candidate(sample);
      if (!spec_.damage.skip || !is_damage(error.reason()) || attempt == kMaxReplacements || sample == index) throw;
      if (attempt == 0) damage = error.what();
    }
  }
}

std::vector<Replacement> Gather::run(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed,
                                     uint64_t epoch, void* out, ThreadPool& pool) const {
  if (keys == nullptr) keys = indices;
  check_indices(indices, n);
  const int64_t bytes = sample_bytes();
  const bool stream = n * bytes >= kStreamBytes;
  const int64_t grain = std::max<int64_t>(1, n / (int64_t{pool.size()} * 8));
  std::vector<Replacement> replaced;
  std::mutex mutex;
  pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int) {
    auto scratch = acquire_scratch();
    for (int64_t i = begin; i < end; ++i) {
      uint8_t* to = static_cast<uint8_t*>(out) + i * bytes;
      std::string damage;
      const int64_t written = write_or_replace(indices[i], keys[i], seed, epoch, to, stream, *scratch, damage);
      if (written == indices[i]) continue;
      const std::lock_guard<std::mutex> lock(mutex);
      replaced.push_back({i, written, std::move(damage)});
    }
    if (stream) finish_stream();
    release_scratch(std::move(scratch));
  });
  std::sort(replaced.begin(), replaced.end(), [](const auto& a, const auto& b) { return a.position < b.position; });
  return replaced;
}

}  // namespace lds
