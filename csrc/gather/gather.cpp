#include "gather/gather.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/fork_local.h"
#include "gather/crop.h"
#include "gather/lines.h"
#include "gather/random.h"

namespace lds {
namespace {

// Batches above this many bytes leave the caches before they are read: write past them.
constexpr int64_t kStreamFrom = int64_t{4} << 20;
// Rows of a batch that are looked at to tell whether it must be read from disk: a system call each.
constexpr int64_t kLooks = 16;
// Batches that must be wholly in memory before only a few of their rows are looked at again.
constexpr int kWary = 64;

Error bad(const std::string& message) { return {Reason::value, message}; }

std::string size_text(int height, int width) { return std::to_string(height) + "x" + std::to_string(width); }

void check_crop(const GatherSpec& spec) {
  const std::string out = size_text(spec.out_height, spec.out_width);
  const std::string in = size_text(spec.height, spec.width);
  if (spec.crop == CropMode::none && (spec.out_height != spec.height || spec.out_width != spec.width)) {
    throw bad("without a crop a batch has the images' size " + in + ", found " + out);
  }
  if (spec.crop == CropMode::random &&
      (spec.out_height > spec.height + 2 * spec.padding || spec.out_width > spec.width + 2 * spec.padding)) {
    throw bad("a random crop of " + out + " does not fit into images of " + in + " with a padding of " +
              std::to_string(spec.padding) + "; a larger padding helps");
  }
  if (spec.crop == CropMode::center && (spec.out_height > spec.height || spec.out_width > spec.width)) {
    throw bad("a crop of " + out + " does not fit into images of " + in);
  }
  if (spec.crop == CropMode::random_resized) {
    if (spec.row_type != PixelType::uint8) throw bad("a store of floats can't be resized; pack it as uint8");
    if (!(spec.scale[0] > 0 && spec.scale[0] <= spec.scale[1] && spec.scale[1] <= 1 && spec.ratio[0] > 0 &&
          spec.ratio[0] <= spec.ratio[1] && std::isfinite(spec.ratio[1]))) {
      throw bad("expected 0 < scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1]");
    }
  }
}

void check(const Rows& rows, const GatherSpec& spec) {
  if (spec.channels < 1 || spec.channels > 4)
    throw bad("expected 1 to 4 channels, found " + std::to_string(spec.channels));
  if (spec.height < 1 || spec.width < 1 || spec.out_height < 1 || spec.out_width < 1) {
    throw bad("expected sizes of at least 1, found images of " + size_text(spec.height, spec.width) +
              " and a batch of " + size_text(spec.out_height, spec.out_width));
  }
  const int64_t bytes = int64_t{spec.channels} * spec.height * spec.width * pixel_bytes(spec.row_type);
  if (rows.row_bytes() != bytes) {
    throw bad("rows of " + std::to_string(rows.row_bytes()) + " bytes hold no images of " +
              std::to_string(spec.channels) + "x" + size_text(spec.height, spec.width));
  }
  if (spec.row_type != PixelType::uint8 && spec.row_type != spec.out_type) {
    throw bad("a store of floats gives batches of its own type");
  }
  if (spec.variants < 1 || rows.size() % spec.variants != 0) {
    throw bad(std::to_string(rows.size()) + " rows are no whole number of samples of " + std::to_string(spec.variants) +
              " variants");
  }
  if (spec.padding < 0) throw bad("padding must not be negative, found " + std::to_string(spec.padding));
  if (!(spec.flip >= 0 && spec.flip <= 1)) throw bad("flip is a probability, found " + std::to_string(spec.flip));
  for (int c = 0; c < spec.channels; ++c) {
    if (!std::isfinite(spec.multiply[static_cast<size_t>(c)]) || !std::isfinite(spec.add[static_cast<size_t>(c)])) {
      throw bad("mean and std must be finite, and std not 0");
    }
  }
  check_crop(spec);
}

// What a thread needs for its samples; kept between batches, so that nothing is allocated once warm.
struct Scratch {
  StreamingResizer resizer;
  Lines lines;
  std::vector<uint8_t> resized;
};

}  // namespace

struct Gather::State {
  std::shared_ptr<const Rows> rows;
  GatherSpec spec;
  Scale scale{};
  struct Idle {
    std::mutex mutex;
    std::vector<std::unique_ptr<Scratch>> scratches;
  };
  ForkLocal<Idle> idle;
  mutable std::atomic<int> wary{0};  // batches still to be looked at as a whole

  std::unique_ptr<Scratch> take() const {
    Idle& mine = idle.get();
    const std::lock_guard<std::mutex> lock(mine.mutex);
    if (mine.scratches.empty()) return std::make_unique<Scratch>();
    auto scratch = std::move(mine.scratches.back());
    mine.scratches.pop_back();
    return scratch;
  }

  void give(std::unique_ptr<Scratch> scratch) const {
    Idle& mine = idle.get();
    const std::lock_guard<std::mutex> lock(mine.mutex);
    mine.scratches.push_back(std::move(scratch));
  }

  ConstImageView image(const uint8_t* row) const {
    return spec.planar_rows ? ConstImageView::chw(row, spec.height, spec.width, spec.channels)
                            : ConstImageView::hwc(row, spec.height, spec.width, spec.channels);
  }

  // The crop of `source`, resized to the output's size in the scratch, in the source's own layout.
  ConstImageView resize(const ConstImageView& source, const Crop& crop, Scratch& scratch) const {
    ConstImageView part = source;
    part.data += crop.y * source.row_stride + crop.x * source.pixel_stride;
    part.width = crop.width;
    part.height = crop.height;
    ResizeSpec resize;
    resize.in_width = crop.width;
    resize.in_height = crop.height;
    resize.channels = spec.channels;
    resize.box[2] = static_cast<float>(crop.width);
    resize.box[3] = static_cast<float>(crop.height);
    resize.out_width = spec.out_width;
    resize.out_height = spec.out_height;
    resize.crop = {0, 0, spec.out_width, spec.out_height};
    scratch.resized.resize(static_cast<size_t>(spec.out_width) * static_cast<size_t>(spec.out_height) *
                           static_cast<size_t>(spec.channels));
    uint8_t* data = scratch.resized.data();
    const ImageView out = spec.planar_rows ? ImageView::chw(data, spec.out_height, spec.out_width, spec.channels)
                                           : ImageView::hwc(data, spec.out_height, spec.out_width, spec.channels);
    resize_image(part, resize, out, scratch.resizer);
    return out;
  }

  void convert_sample(Lines& lines, uint8_t* out, bool stream) const {
    const ConvertKernels& kernels = convert_kernels();
    const bool planar = spec.planar_out || spec.channels == 1;
    const int per_run = planar ? 1 : spec.channels;
    const int64_t run_lines = lines.contiguous() ? spec.out_height : 1;
    const int64_t pixels = run_lines * spec.out_width;
    const int64_t run_bytes = pixels * per_run * pixel_bytes(spec.out_type);
    const int64_t plane_bytes = int64_t{spec.out_height} * spec.out_width * pixel_bytes(spec.out_type);
    for (int y = 0; y < spec.out_height; y += static_cast<int>(run_lines)) {
      for (int c = 0; c < (planar ? spec.channels : 1); ++c) {
        Scale scale_of_run = scale;
        if (planar) scale_of_run = {{scale.multiply[c], 0, 0, 0}, {scale.add[c], 0, 0, 0}};
        kernels.pixels(lines.line(y, c), pixels, per_run, scale_of_run, spec.out_type,
                       out + c * (planar ? plane_bytes : 0) + y / run_lines * run_bytes, stream);
      }
    }
  }

  // Rows that are floats already: moved value by value, since they only need crop, flip and layout.
  void copy_floats(const uint8_t* row, const Crop& crop, bool flip, uint8_t* out) const {
    const auto bytes = static_cast<size_t>(pixel_bytes(spec.row_type));
    for (int c = 0; c < spec.channels; ++c) {
      uint8_t pad[4] = {};
      convert_kernels().pixels(pad, 1, 1, {{0, 0, 0, 0}, {scale.add[c], 0, 0, 0}}, spec.row_type, pad, false);
      for (int y = 0; y < spec.out_height; ++y) {
        for (int x = 0; x < spec.out_width; ++x) {
          const int from_y = crop.y + y;
          const int from_x = crop.x + (flip ? spec.out_width - 1 - x : x);
          const bool inside = from_y >= 0 && from_y < spec.height && from_x >= 0 && from_x < spec.width;
          const int64_t from = spec.planar_rows ? (int64_t{c} * spec.height + from_y) * spec.width + from_x
                                                : (int64_t{from_y} * spec.width + from_x) * spec.channels + c;
          const int64_t to = spec.planar_out ? (int64_t{c} * spec.out_height + y) * spec.out_width + x
                                             : (int64_t{y} * spec.out_width + x) * spec.channels + c;
          std::memcpy(out + to * static_cast<int64_t>(bytes), inside ? row + from * static_cast<int64_t>(bytes) : pad,
                      bytes);
        }
      }
    }
  }

  // Consumes the sample's draw of its variant.
  int64_t row_of(int64_t index, uint64_t epoch, SampleRandom& random) const {
    if (spec.variants == 1) return index;
    if (spec.variant_choice == VariantChoice::draw) return index * spec.variants + random.below(spec.variants);
    return index * spec.variants + static_cast<int64_t>(epoch % static_cast<uint64_t>(spec.variants));
  }

  void sample(int64_t index, int64_t key, uint64_t seed, uint64_t epoch, uint8_t* out, bool stream,
              Scratch& scratch) const {
    SampleRandom random(seed, epoch, static_cast<uint64_t>(key));
    const int64_t row_number = row_of(index, epoch, random);
    Crop crop = choose_crop(spec, random);
    const bool flip = spec.flip > 0 && random.uniform() < spec.flip;
    const uint8_t* row = rows->row(row_number);
    if (spec.row_type != PixelType::uint8) {
      copy_floats(row, crop, flip, out);
      return;
    }
    ConstImageView source = image(row);
    if (spec.crop == CropMode::random_resized) {
      source = resize(source, crop, scratch);
      crop = {0, 0, spec.out_width, spec.out_height};
    }
    scratch.lines.begin(source, crop, flip, spec.planar_out);
    convert_sample(scratch.lines, out, stream);
  }
};

Gather::Gather(std::shared_ptr<const Rows> rows, const GatherSpec& spec) : state_(std::make_unique<State>()) {
  check(*rows, spec);
  state_->rows = std::move(rows);
  state_->spec = spec;
  std::copy(spec.multiply.begin(), spec.multiply.end(), state_->scale.multiply);
  std::copy(spec.add.begin(), spec.add.end(), state_->scale.add);
}

Gather::~Gather() = default;

const GatherSpec& Gather::spec() const noexcept { return state_->spec; }

const Rows& Gather::rows() const noexcept { return *state_->rows; }

int64_t Gather::samples() const noexcept { return state_->rows->size() / state_->spec.variants; }

int64_t Gather::sample_bytes() const noexcept {
  const GatherSpec& spec = state_->spec;
  return int64_t{spec.channels} * spec.out_height * spec.out_width * pixel_bytes(spec.out_type);
}

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
      state_->sample(indices[i], keys[i], seed, epoch, static_cast<uint8_t*>(out) + i * bytes, stream, *scratch);
    }
    if (stream) finish_stream();
    state_->give(std::move(scratch));
  });
}

}  // namespace lds
