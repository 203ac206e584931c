// Which values of a row are picked, in which order: the same ones of every row. That is what resizing by nearest
// neighbours does in one direction, with or without a flip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lds {

struct PickTable {
  static constexpr int kLane = 16;     // bytes of one load, and of one shuffle
  static constexpr int kMaxLoads = 4;  // with more, moving values one by one is as fast
  static constexpr int kPad = 32;      // what a kernel may write past the last value

  int64_t value_bytes = 1;      // 1, 2, 4 or 8
  std::vector<ptrdiff_t> from;  // the byte of the row at which value i of the output begins; -1: the value is 0

  // The same as shuffles. Each lane of the output, 16 bytes, is put together from bytes of `loads` loads that follow
  // each other; 0: they would be too many, or longer than what is picked from. Two lanes are a vector.
  int loads = 0;
  std::vector<ptrdiff_t> base;    // of each lane: the byte of the row at which its first load begins
  std::vector<uint8_t> shuffles;  // vectors x loads x 32; 0x80: a byte of another load

  // Computes the shuffles. The loads stay between the first and the last byte that is picked.
  void prepare();

 private:
  void prepare_lane(size_t lane, ptrdiff_t last_base);
};

}  // namespace lds
