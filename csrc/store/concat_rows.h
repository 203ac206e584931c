// Presents several sources one after another, such as raw rows and JPEG rows.
#pragma once

#include <memory>
#include <vector>

#include "store/row_source.h"
#include "store/shard_index.h"

namespace lds {

class ConcatRows : public RowSource {
 public:
  explicit ConcatRows(std::vector<std::shared_ptr<const RowSource>> parts);

  const std::vector<std::shared_ptr<const RowSource>>& parts() const noexcept { return parts_; }
  int64_t size() const noexcept override { return index_.size(); }

  Extent row(int64_t index) const override;
  std::string describe(int64_t index) const override;
  int64_t will_need(const int64_t* indices, int64_t n) const noexcept override;
  void release(int64_t index) const noexcept override;
  bool resident(int64_t index) const noexcept override;

 private:
  std::vector<std::shared_ptr<const RowSource>> parts_;
  ShardIndex index_;
};

}  // namespace lds
