#include "convert/pick_table.h"

#include <algorithm>
#include <limits>

namespace lds {
namespace {

struct Range {
  ptrdiff_t low = std::numeric_limits<ptrdiff_t>::max(), high = 0;  // high: past the last byte
  bool empty() const noexcept { return high <= low; }
};

// The bytes of the row that values [first, last) of the output come from.
Range range_of(const PickTable& table, size_t first, size_t last) noexcept {
  Range range;
  for (size_t i = first; i < last; ++i) {
    if (table.from[i] < 0) continue;
    range.low = std::min(range.low, table.from[i]);
    range.high = std::max(range.high, table.from[i] + static_cast<ptrdiff_t>(table.value_bytes));
  }
  return range;
}

}  // namespace

void PickTable::prepare() {
  const size_t per_lane = kLane / static_cast<size_t>(value_bytes), n = from.size();
  const Range all = range_of(*this, 0, n);
  loads = 0;
  ptrdiff_t most = 1;
  for (size_t first = 0; first < n; first += per_lane) {
    const Range lane = range_of(*this, first, std::min(first + per_lane, n));
    if (!lane.empty()) most = std::max(most, (lane.high - lane.low + kLane - 1) / kLane);
  }
  if (most > kMaxLoads || all.empty() || all.high - all.low < most * kLane) return;
  loads = static_cast<int>(most);
  const size_t vectors = (n + 2 * per_lane - 1) / (2 * per_lane);
  base.assign(vectors * 2, all.low);
  shuffles.assign(vectors * static_cast<size_t>(loads) * 2 * kLane, 0x80);
  for (size_t lane = 0; lane * per_lane < n; ++lane) prepare_lane(lane, all.high - most * kLane);
}

// The lane's first load begins at `last_base` at most.
void PickTable::prepare_lane(size_t lane, ptrdiff_t last_base) {
  const size_t per_lane = kLane / static_cast<size_t>(value_bytes), first = lane * per_lane;
  const size_t end = std::min(first + per_lane, from.size());
  const Range range = range_of(*this, first, end);
  if (!range.empty()) base[lane] = std::min(range.low, last_base);
  uint8_t* const vector = &shuffles[lane / 2 * static_cast<size_t>(loads) * 2 * kLane];
  for (size_t i = first; i < end; ++i) {
    if (from[i] < 0) continue;
    for (ptrdiff_t b = 0; b < value_bytes; ++b) {
      const ptrdiff_t offset = from[i] - base[lane] + b, load = offset / kLane;
      const size_t at = static_cast<size_t>(load) * 2 * kLane + lane % 2 * kLane;
      vector[at + (i - first) * static_cast<size_t>(value_bytes) + static_cast<size_t>(b)] =
          static_cast<uint8_t>(offset % kLane);
    }
  }
}

}  // namespace lds
