// The Huffman codes of sequential JPEG. Reading them takes more than half of the time of libjpeg's decoding.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "codec/libjpeg.h"

namespace lds {

// The data as bits. They are handed on by value, so that a fast loop keeps them in registers.
struct BitReader {
  uint64_t bits = 0;  // the next ones, left-aligned; behind the end of the data they are zeros
  int count = 0;      // of them; below 0: more were taken than there were
  int marker = 0;     // the one at `next`, where the data end
  bool bad = false;   // there were bits that no code begins with
  const uint8_t* next = nullptr;
  const uint8_t* end = nullptr;

  static constexpr int kEnough = 32;  // for any symbol: a code of at most 16 bits and a value of at most 15

  // At least kEnough bits, where there are so many.
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
  [[gnu::always_inline]] inline void take(uint32_t taken) noexcept {
    bits <<= taken;
    count -= static_cast<int>(taken);
  }

 private:
  static BitReader refilled_slowly(BitReader in) noexcept;
};

// One of a file's tables, laid out so that a look at the next kPeek bits says which symbol they begin with, or how much
// of a block they hold.
class HuffmanTable {
 public:
  static constexpr int kPeek = 10;
  static constexpr uint32_t kBlockSize = 64;

  // The table's codes must form a tree: libjpeg has checked it. Does nothing when it is the table of the last call.
  void build(const JHUFF_TBL& table, bool dc);

  // The DC coefficient, as what it is more than the last one.
  [[gnu::always_inline]] inline int32_t read_dc(BitReader& in) const noexcept {
    const Symbol symbol = next(in);
    const int32_t value = value_of(in, symbol);
    in.take(symbol & 0xff);
    return value;
  }

  // The others of a block, which must be zeros.
  [[gnu::always_inline]] inline void read_ac(BitReader& in, JCOEF* block) const noexcept {
    for (uint32_t k = 1; k < kBlockSize; ++k) {
      const Symbol symbol = next(in);
      k += symbol >> 8 & 0xff;
      block[kZigzag[k]] = static_cast<JCOEF>(value_of(in, symbol));
      in.take(symbol & 0xff);
    }
  }

  // Passes over them.
  [[gnu::always_inline]] inline void pass_ac(BitReader& in) const noexcept {
    for (uint32_t k = 1; k < kBlockSize;) {
      in.refill();
      const uint32_t symbols = passed_[in.bits >> (64 - kPeek)];
      const uint32_t after = k + (symbols >> 7);
      // where the block may end in the midst of them, one at a time
      if (__builtin_expect((symbols & 63) != 0 && after < kBlockSize, 1)) {
        in.take(symbols & 63);
        if (symbols & kPassedEnd) break;
        k = after;
      } else {
        const Symbol symbol = next(in);
        in.take(symbol & 0xff);
        k += (symbol >> 8 & 0xff) + 1;
      }
    }
  }

 private:
  // A symbol, from the low end:
  //   8 bits  so many bits are taken, the coefficient's among them
  //   8 bits  so many zeros are before the coefficient; kEnd: the block ends
  //   8 bits  the size of the coefficient in bits
  //   8 bits  the length of the code; 0: kPeek bits don't tell
  using Symbol = uint32_t;
  static constexpr uint32_t kEnd = 64;

  // Symbols of one block:
  //   6 bits  so many bits are taken; 0: kPeek bits don't tell
  //   1 bit   then the block ends
  //   9 bits  so many coefficients are passed, zeros among them
  using Symbols = uint16_t;
  static constexpr uint32_t kPassedEnd = 64;

  // The places of coefficients in a block. Runs may lead beyond it: as in libjpeg that is its last place, where the end
  // of a block writes a zero too, over nothing.
  static const uint8_t kZigzag[2 * kBlockSize];

  [[gnu::always_inline]] inline Symbol next(BitReader& in) const noexcept {
    in.refill();
    const Symbol symbol = symbols_[in.bits >> (64 - kPeek)];
    if (__builtin_expect(symbol >> 24 != 0, 1)) return symbol;
    const LongSymbol found = long_symbol(in);
    in = found.in;
    return found.symbol;
  }

  // What the bits behind the code say: where they begin with 0, it is negative.
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
  Symbols passed_of(uint32_t peeked) const noexcept;

  Symbol symbols_[1 << kPeek];
  Symbols passed_[1 << kPeek];
  uint32_t limit_[17];  // of each length: the first 16 bits behind its last code
  int32_t offset_[17];  // from a code of this length to its place in table_.huffval
  JHUFF_TBL table_;
  bool dc_ = false, built_ = false;
};

}  // namespace lds
