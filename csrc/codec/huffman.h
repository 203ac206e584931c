// The Huffman codes of sequential JPEG. Reading them takes more than half of the time of libjpeg's decoding.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "codec/libjpeg.h"

namespace lds {

// The data as bits. A reader is passed by value, so that a fast loop keeps it in registers.
struct BitReader {
  uint64_t bits = 0;  // the next ones, left-aligned; behind the end of the data they are zeros
  int count = 0;      // of them; below 0: more were consumed than there were
  int marker = 0;     // the one at `next`, where the data end
  bool bad = false;   // an invalid code was found
  const uint8_t* next = nullptr;
  const uint8_t* end = nullptr;

  static constexpr int kEnough = 32;  // for any symbol: a code of at most 16 bits and a value of at most 15

  // Makes count at least kEnough, where the data have so many bits left.
  [[gnu::always_inline]] inline void refill() noexcept {
    if (count >= kEnough) return;
    if (end - next >= 8 && count >= 0) {
      uint64_t word = 0;
      std::memcpy(&word, next, 8);
      word = __builtin_bswap64(word);
      const bool has_ff = (word & (~word - 0x0101010101010101U) & 0x8080808080808080U) != 0;
      if (__builtin_expect(!has_ff, 1)) {
        bits |= word >> count;
        const int bytes = (63 - count) >> 3;
        next += bytes;
        count += 8 * bytes;
        return;
      }
    }
    *this = refilled_slowly(*this);
  }
  [[gnu::always_inline]] inline void consume(uint32_t used) noexcept {
    bits <<= used;
    count -= static_cast<int>(used);
  }

 private:
  static BitReader refilled_slowly(BitReader in) noexcept;
};

// One table of a file, laid out so that the next kPeek bits are an index: of the symbol that they begin with, or of how
// much of a block they hold.
class HuffmanTable {
 public:
  static constexpr int kPeek = 10;
  static constexpr uint32_t kBlockSize = 64;

  // The codes must form a tree, which libjpeg has checked. Does nothing for the table of the last call.
  void build(const JHUFF_TBL& table, bool dc);

  // Reads the DC difference.
  [[gnu::always_inline]] inline int32_t read_dc(BitReader& in) const noexcept {
    const Symbol symbol = next(in);
    const int32_t value = value_of(in, symbol);
    in.consume(symbol & 0xff);
    return value;
  }

  // Reads the AC coefficients into a block of zeros.
  [[gnu::always_inline]] inline void read_ac(BitReader& in, JCOEF* block) const noexcept {
    for (uint32_t k = 1; k < kBlockSize; ++k) {
      const Symbol symbol = next(in);
      k += symbol >> 8 & 0xff;
      block[kZigzag[k]] = static_cast<JCOEF>(value_of(in, symbol));
      in.consume(symbol & 0xff);
    }
  }

  // Skips them.
  [[gnu::always_inline]] inline void skip_ac(BitReader& in) const noexcept {
    for (uint32_t k = 1; k < kBlockSize;) {
      in.refill();
      const uint32_t entry = skip_table_[in.bits >> (64 - kPeek)];
      const uint32_t after = k + (entry >> 7);
      // if the block may end inside this group, symbol by symbol
      if (__builtin_expect((entry & 63) != 0 && after < kBlockSize, 1)) {
        in.consume(entry & 63);
        if (entry & kSkipEnd) break;
        k = after;
      } else {
        const Symbol symbol = next(in);
        in.consume(symbol & 0xff);
        k += (symbol >> 8 & 0xff) + 1;
      }
    }
  }

 private:
  // A symbol, from the low end:
  //   8 bits  number of bits to consume, those of the coefficient included
  //   8 bits  number of zeros before the coefficient; kEnd: the block ends
  //   8 bits  the size of the coefficient in bits
  //   8 bits  the length of the code; 0: it is longer than kPeek bits
  using Symbol = uint32_t;
  static constexpr uint32_t kEnd = 64;

  // Several symbols of one block:
  //   6 bits  number of bits to consume; 0: kPeek bits hold no whole symbol
  //   1 bit   whether the block ends then
  //   9 bits  number of coefficients skipped, zeros included
  using SkipEntry = uint16_t;
  static constexpr uint32_t kSkipEnd = 64;

  // The index of each coefficient in its block. Runs may lead beyond it: as in libjpeg, those land on the last index.
  // The end of a block writes a zero there too, over a zero.
  static const uint8_t kZigzag[2 * kBlockSize];

  [[gnu::always_inline]] inline Symbol next(BitReader& in) const noexcept {
    in.refill();
    const Symbol symbol = symbols_[in.bits >> (64 - kPeek)];
    if (__builtin_expect(symbol >> 24 != 0, 1)) return symbol;
    const LongSymbol found = long_symbol(in);
    in = found.in;
    return found.symbol;
  }

  // The value that the bits after the code stand for: it is negative where they begin with 0.
  [[gnu::always_inline]] static inline int32_t value_of(const BitReader& in, Symbol symbol) noexcept {
    const uint32_t size = symbol >> 16 & 0xff;
    const uint64_t from = in.bits << (symbol >> 24);
    const auto value = static_cast<int32_t>(from >> 1 >> (63 - size));
    const int32_t negative = static_cast<int32_t>(from >> 63) - 1;
    return value + (negative & (1 - (1 << size)));
  }

  struct LongSymbol {
    BitReader in;
    Symbol symbol;
  };
  LongSymbol long_symbol(BitReader in) const noexcept;
  Symbol symbol_of(uint32_t length, uint32_t meaning) const noexcept;
  SkipEntry skip_entry(uint32_t peeked) const noexcept;

  Symbol symbols_[1 << kPeek];
  SkipEntry skip_table_[1 << kPeek];
  uint32_t limit_[17];  // of each length: the 16 bits that follow its last code
  int32_t offset_[17];  // from a code of this length to its index in table_.huffval
  JHUFF_TBL table_;
  bool dc_ = false, built_ = false;
};

}  // namespace lds
