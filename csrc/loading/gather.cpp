#include "loading/gather.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "common/error.h"
#include "common/size_text.h"

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

Gather::Gather(std::vector<Picture> pictures, GatherSpec spec)
    : pictures_(std::move(pictures)), spec_(std::move(spec)) {
  if (pictures_.empty()) throw Error(Reason::value, "expected at least one picture");
  const int64_t rows = pictures_.front().rows->size();
  for (const Picture& picture : pictures_) {
    make_image_reader(picture.read);  // checks the spec
    if (picture.rows->size() == rows) continue;
    throw Error(Reason::value, "a picture of " + std::to_string(picture.rows->size()) + " rows does not match " +
                                   std::to_string(rows) + " images");
  }
  if (spec_.variants < 1 || rows % spec_.variants != 0) {
    throw Error(Reason::value,
                std::to_string(rows) + " rows are not a multiple of " + std::to_string(spec_.variants) + " variants");
  }
  for (const AugmentSpec& view : spec_.views) {
    for (const Picture& picture : pictures_) writers_.emplace_back(picture.read.images, view, picture.output);
  }
}

Gather::IdleScratches::~IdleScratches() {
  for (Slot& slot : slots) delete slot.scratch.load(std::memory_order_acquire);
}

std::unique_ptr<Gather::Scratch> Gather::acquire_scratch(int worker) const {
  IdleScratches& idle = idle_.get();
  const size_t own = static_cast<size_t>(worker) % idle.slots.size();
  for (size_t i = 0; i < idle.slots.size(); ++i) {
    std::atomic<Scratch*>& slot = idle.slots[(own + i) % idle.slots.size()].scratch;
    if (slot.load(std::memory_order_relaxed) == nullptr) continue;
    if (Scratch* found = slot.exchange(nullptr, std::memory_order_acquire)) return std::unique_ptr<Scratch>(found);
  }
  {
    const std::lock_guard<std::mutex> lock(idle.mutex);
    if (!idle.list.empty()) {
      auto scratch = std::move(idle.list.back());
      idle.list.pop_back();
      return scratch;
    }
  }
  auto scratch = std::make_unique<Scratch>();
  for (const Picture& picture : pictures_) scratch->readers.push_back(make_image_reader(picture.read));
  return scratch;
}

void Gather::release_scratch(std::unique_ptr<Scratch> scratch, int worker) const {
  IdleScratches& idle = idle_.get();
  Scratch* empty = nullptr;
  std::atomic<Scratch*>& own = idle.slots[static_cast<size_t>(worker) % idle.slots.size()].scratch;
  if (own.compare_exchange_strong(empty, scratch.get(), std::memory_order_release, std::memory_order_relaxed)) {
    static_cast<void>(scratch.release());
    return;
  }
  const std::lock_guard<std::mutex> lock(idle.mutex);
  try {
    idle.list.push_back(std::move(scratch));
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

int64_t Gather::read_ahead(const SampleList& samples) const noexcept {
  if (writers_.empty()) return 0;
  const auto row = [&](int64_t i) {
    SampleRandom random = samples.random(i);
    return row_of(samples.indices[i], samples.epoch, random);
  };
  const bool probe_all = cold_batches_.load(std::memory_order_relaxed) > 0;
  const int64_t step = probe_all ? 1 : std::max<int64_t>(1, samples.n / kResidencyProbes);
  bool cold = false;
  for (int64_t i = 0; i < samples.n && !cold; i += step) cold = !pictures_.front().rows->resident(row(i));
  if (!cold) {
    if (probe_all) cold_batches_.fetch_sub(1, std::memory_order_relaxed);
    return 0;
  }
  cold_batches_.store(kProbeAllBatches, std::memory_order_relaxed);
  int64_t requested = 0;
  for (int64_t i = 0; i < samples.n; ++i) {
    const int64_t needed = row(i);
    int64_t asked = 0;
    for (const Picture& picture : pictures_) asked += picture.rows->will_need(&needed, 1);
    requested += asked > 0 ? 1 : 0;
  }
  return requested;
}

bool Gather::streams(int64_t n) const noexcept {
  int64_t bytes = 0;
  for (const SampleWriter& writer : writers_) bytes += writer.bytes();
  return n * bytes >= kStreamBytes;
}

void Gather::check_indices(const SampleList& samples) const {
  const int64_t count = this->samples();
  for (int64_t i = 0; i < samples.n; ++i) {
    const int64_t index = samples.indices[i];
    if (index >= 0 && index < count) continue;
    throw Error(Reason::index, "row " + std::to_string(index) + " is outside the store's " + std::to_string(count) +
                                   " rows; expected 0 to " + std::to_string(count - 1));
  }
}

// Writes sample `index` in the place, and with the draws, of sample i of the batch.
void Gather::write(const SampleList& samples, int64_t i, int64_t index, const Destination& out,
                   Scratch& scratch) const {
  SampleRandom random = samples.random(i);
  const int64_t row = row_of(index, samples.epoch, random);
  ImageSize size;
  for (size_t p = 0; p < pictures_.size(); ++p) {
    with_row(*pictures_[p].rows, row, [&](const Extent& extent) {
      const ImageSize found = scratch.readers[p]->open(extent);
      if (p == 0) {
        size = found;
        check_size(size);
        scratch.geometries.clear();
        for (size_t view = 0; view < spec_.views.size(); ++view) {
          if (view > 0) random = samples.random(i, static_cast<uint32_t>(view));
          scratch.geometries.push_back(draw_geometry(spec_.views[view], size, random));
        }
      } else if (found != size) {
        throw Error(Reason::shape, "the picture is " + size_text(found) + ", and its image " + size_text(size));
      }
      write_views(p, size, i, out, scratch);
    });
  }
}

// Writes all views of the picture that its reader has opened.
void Gather::write_views(size_t picture, ImageSize size, int64_t i, const Destination& out, Scratch& scratch) const {
  ImageReader& image = *scratch.readers[picture];
  if (spec_.views.size() > 1) {
    scratch.requests.clear();
    for (const Geometry& geometry : scratch.geometries) {
      const IntBox box = geometry.inside(size);
      scratch.requests.push_back({box, geometry.resizes() ? geometry.resized : box.size()});
    }
    image.hold(scratch.requests);
  }
  for (size_t view = 0; view < spec_.views.size(); ++view) {
    const size_t part = view * pictures_.size() + picture;
    const SampleWriter& writer = writers_[part];
    writer.write(image, size, scratch.geometries[view], out.parts[part] + i * writer.bytes(), out.stream,
                 scratch.sample);
  }
}

// The options were checked for the sizes that the store claims, and the writers made for them.
void Gather::check_size(ImageSize image) const {
  const ImageSize& least = pictures_.front().read.images.size;
  const bool large_enough = image.height >= least.height && image.width >= least.width;
  const bool fits = std::all_of(spec_.views.begin(), spec_.views.end(), [&](const AugmentSpec& view) {
    return view.crop == CropMode::none ? image == least : large_enough;
  });
  if (fits) return;
  throw Error(Reason::store,
              "the image has " + size_text(image) + " pixels, and the manifest says " + size_text(least) + " or more");
}

// The sample after this one, in the order of the candidates and then again from their start.
int64_t Gather::next_candidate(int64_t index) const noexcept {
  const std::vector<int64_t>& candidates = spec_.damage.candidates;
  if (candidates.empty()) return (index + 1) % samples();
  const auto after = std::upper_bound(candidates.begin(), candidates.end(), index);
  return after == candidates.end() ? candidates.front() : *after;
}

// Returns the index of the sample that was written.
int64_t Gather::write_or_replace(const SampleList& samples, int64_t i, const Destination& out, Scratch& scratch,
                                 std::string& damage) const {
  const int64_t index = samples.indices[i];
  int64_t sample = index;
  for (int attempt = 0;; ++attempt) {
    try {
      write(samples, i, sample, out, scratch);
      return sample;
    } catch (const Error& error) {
      sample = next_candidate(sample);
      if (!spec_.damage.skip || !is_damage(error.reason()) || attempt == kMaxReplacements || sample == index) throw;
      if (attempt == 0) damage = error.what();
    }
  }
}

int64_t Gather::grain(int64_t n, int threads) noexcept { return std::max<int64_t>(1, n / (int64_t{threads} * 8)); }

std::vector<Replacement> Gather::run(const SampleList& samples, const std::vector<uint8_t*>& out,
                                     ThreadPool& pool) const {
  BatchWriter writer(*this, samples, out);
  pool.parallel_for(samples.n, grain(samples.n, pool.size()),
                    [&](int64_t begin, int64_t end, int worker) { writer.write(begin, end, worker); });
  return writer.replaced();
}

Gather::BatchWriter::BatchWriter(const Gather& gather, const SampleList& samples, std::vector<uint8_t*> out)
    : gather_(gather), samples_(samples), out_(std::move(out)), destination_{out_, gather.streams(samples.n)} {
  if (out_.size() != gather.parts()) {
    throw Error(Reason::internal, "the number of outputs is not that of the parts");
  }
  gather.check_indices(samples);
}

void Gather::BatchWriter::write(int64_t begin, int64_t end, int worker) {
  if (gather_.writers_.empty()) return;
  auto scratch = gather_.acquire_scratch(worker);
  for (int64_t i = begin; i < end; ++i) {
    std::string damage;
    const int64_t written = gather_.write_or_replace(samples_, i, destination_, *scratch, damage);
    if (written == samples_.indices[i]) continue;
    const std::lock_guard<std::mutex> lock(mutex_);
    replaced_.push_back({i, written, std::move(damage)});
  }
  if (destination_.stream) finish_stream();
  gather_.release_scratch(std::move(scratch), worker);
}

std::vector<Replacement> Gather::BatchWriter::replaced() {
  std::sort(replaced_.begin(), replaced_.end(), [](const auto& a, const auto& b) { return a.position < b.position; });
  return std::move(replaced_);
}

}  // namespace lds
