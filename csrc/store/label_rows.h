// The labels of several stores, whose classes have other numbers together than alone.
#pragma once

#include <cstdint>
#include <vector>

#include "store/fixed_rows.h"

namespace lds {

// Of `rows` consecutive labels: label l is read as numbers[l], a negative one as it is. Without numbers, all are.
struct Renumbering {
  int64_t rows = 0;
  std::vector<int64_t> numbers;
};

class LabelRows : public FixedRows {
 public:
  // Labels are little-endian integers of row_bytes bytes: 1, 2, 4 or 8.
  LabelRows(std::vector<ShardFile> shards, int64_t row_bytes, bool is_signed, std::vector<Renumbering> parts,
            Files files = Files::present);

 private:
  void convert(int64_t index, uint8_t* value) const override;

  bool signed_;
  std::vector<Renumbering> parts_;
  ShardIndex part_of_;
};

}  // namespace lds
