#include "store/concat_rows.h"

#include <utility>

namespace lds {
namespace {

std::vector<int64_t> sizes_of(const std::vector<std::shared_ptr<const RowSource>>& parts) {
  std::vector<int64_t> sizes;
  sizes.reserve(parts.size());
  for (const auto& part : parts) sizes.push_back(part->size());
  return sizes;
}

}  // namespace

ConcatRows::ConcatRows(std::vector<std::shared_ptr<const RowSource>> parts)
    : parts_(std::move(parts)), index_(sizes_of(parts_)) {}

Extent ConcatRows::row(int64_t index) const {
  const auto [part, row] = index_.find(index);
  Extent found = parts_[part]->row(row);
  found.part = static_cast<int>(part);
  return found;
}

std::string ConcatRows::describe(int64_t index) const {
  const auto [part, row] = index_.find(index);
  return parts_[part]->describe(row);
}

int64_t ConcatRows::will_need(const int64_t* indices, int64_t n) const noexcept {
  int64_t requested = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (indices[i] < 0 || indices[i] >= size()) continue;
    const auto [part, row] = index_.find(indices[i]);
    requested += parts_[part]->will_need(&row, 1);
  }
  return requested;
}

void ConcatRows::release(int64_t index) const noexcept {
  if (index < 0 || index >= size()) return;
  const auto [part, row] = index_.find(index);
  parts_[part]->release(row);
}

bool ConcatRows::resident(int64_t index) const noexcept {
  if (index < 0 || index >= size()) return true;
  const auto [part, row] = index_.find(index);
  return parts_[part]->resident(row);
}

}  // namespace lds
