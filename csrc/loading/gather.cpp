#include "loading/gather.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "common/fork_local.h"
#include "transform/sample.h"

namespace lds {
namespace {

// Batches above this many bytes leave the caches before they are read: write past them.
constexpr int64_t kStreamFrom = int64_t{4} << 20;
// Rows of a batch that are looked at to tell whether it must be read from disk: a system call each.
constexpr int64_t kLooks = 16;
// Batches that must be wholly in memory before only a few of their rows are looked at again.
constexpr int kWary = 64;

void check_rows(const Rows& rows, const GatherSpec& spec) {
  if (rows.row_bytes() != spec.bytes()) {
    throw Error(Reason::value, "rows of " + std::to_string(rows.row_bytes()) + " bytes hold no images of " +
                                   std::to_string(spec.channels) + "x" + std::to_string(spec.height) + "x" +
                                   std::to_string(spec.width));
  }
  if (spec.variants < 1 || rows.size() % spec.variants != 0) {
    throw Error(Reason::value, std::to_string(rows.size()) + " rows are no whole number of samples of " +
                                   std::to_string(spec.variants) + " variants");
  }
}

}  // namespace

struct Gather::State {
  std::shared_ptr<const Rows> rows;
  GatherSpec spec;
  SampleMaker maker;
  struct Idle {
    std::mutex mutex;
    std::vector<std::unique_ptr<SampleScratch>> scratches;
  };
  ForkLocal<Idle> idle;
  mutable std::atomic<int> wary{0};  // batches still to be looked at as a whole

  std::unique_ptr<SampleScratch> take() const {
    Idle& mine = idle.get();
    const std::lock_guard<std::mutex> lock(mine.mutex);
    if (mine.scratches.empty()) return std::make_unique<SampleScratch>();
    auto scratch = std::move(mine.scratches.back());
    mine.scratches.pop_back();
    return scratch;
  }

  void give(std::unique_ptr<SampleScratch> scratch) const {
    Idle& mine = idle.get();
    const std::lock_guard<std::mutex> lock(mine.mutex);
    mine.scratches.push_back(std::move(scratch));
  }

  State(std::shared_ptr<const Rows> given, const GatherSpec& wanted)
      : rows(std::move(given)), spec(wanted), maker(wanted) {
    check_rows(*rows, spec);
  }

  // Consumes the sample's draw of its variant.
  int64_t row_of(int64_t index, uint64_t epoch, SampleRandom& random) const {
    if (spec.variants == 1) return index;
    if (spec.variant_choice == VariantChoice::draw) return index * spec.variants + random.below(spec.variants);
    return index * spec.variants + static_cast<int64_t>(epoch % static_cast<uint64_t>(spec.variants));
  }
};

Gather::Gather(std::shared_ptr<const Rows> rows, const GatherSpec& spec)
    : state_(std::make_unique<State>(std::move(rows), spec)) {}

Gather::~Gather() = default;

const GatherSpec& Gather::spec() const noexcept { return state_->spec; }

const Rows& Gather::rows() const noexcept { return *state_->rows; }

int64_t Gather::samples() const noexcept { return state_->rows->size() / state_->spec.variants; }

int64_t Gather::sample_bytes() const noexcept { return state_->spec.out_bytes(); }

int64_t Gather::read_ahead(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed,
                           uint64_t epoch) const noexcept {
  const auto row = [&](int64_t i) {
    SampleRandom random(seed, epoch, static_cast<uint64_t>(keys == nullptr ? indices[i] : keys[i]));
    return state_->row_of(indices[i], epoch, random);
  };
  const bool look_at_all = state_->wary.load(std::memory_order_relaxed) > 0;
  const int64_t step = look_at_all ? 1 : std::max<int64_t>(1, n / kLooks);
  bool cold = false;
  for (int64_t i = 0; i < n && !cold; i += step) cold = !state_->rows->resident(row(i));
  if (!cold) {
    if (look_at_all) state_->wary.fetch_sub(1, std::memory_order_relaxed);
    return 0;
  }
  state_->wary.store(kWary, std::memory_order_relaxed);
  int64_t asked = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t wanted = row(i);
    if (state_->rows->resident(wanted)) continue;
    state_->rows->will_need(&wanted, 1);
    ++asked;
  }
  return asked;
}

void Gather::run(const int64_t* indices, const int64_t* keys, int64_t n, uint64_t seed, uint64_t epoch, void* out,
                 ThreadPool& pool) const {
  if (keys == nullptr) keys = indices;
  const int64_t count = samples();
  for (int64_t i = 0; i < n; ++i) {
    if (indices[i] < 0 || indices[i] >= count) {
      throw Error(Reason::index, "row " + std::to_string(indices[i]) + " is outside the store's " +
                                     std::to_string(count) + " rows; expected 0 to " + std::to_string(count - 1));
    }
  }
  const int64_t bytes = sample_bytes();
  const bool stream = n * bytes >= kStreamFrom;
  const int64_t grain = std::max<int64_t>(1, n / (int64_t{pool.size()} * 8));
  pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int) {
    auto scratch = state_->take();
    for (int64_t i = begin; i < end; ++i) {
      SampleRandom random(seed, epoch, static_cast<uint64_t>(keys[i]));
      const uint8_t* row = state_->rows->row(state_->row_of(indices[i], epoch, random));
      state_->maker.make(row, random, static_cast<uint8_t*>(out) + i * bytes, stream, *scratch);
    }
    if (stream) finish_stream();
    state_->give(std::move(scratch));
  });
}

}  // namespace lds
