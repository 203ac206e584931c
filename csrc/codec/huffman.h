// Decodes the Huffman codes of sequential JPEG files (ITU-T T.81, annex F), which takes more than half of libjpeg's
// decoding time.
#pragma once

#include <cstdint>
#include <cstring>

#include "codec/libjpeg.h"

namespace lds {

// Reads the entropy-coded data bit by bit. It is passed by value, so that a loop can keep it in registers.
struct BitReader {
  uint64_t bits = 0;  // the next bits, left-aligned; zeros after the end of the data
  int count = 0;      // number of valid bits; negative once more bits were consumed than the data has
  int marker = 0;     // the marker at `next` that ends the data; 0 while there is none
  bool bad = false;   // an invalid code was found
  const uint8_t* next = nullptr;
  const uint8_t* end = nullptr;

  static constexpr int kEnough = 32;  // enough for any symbol: a code has at most 16 bits and a value at most 15

  // Raises `count` to at least kEnough, unless the data ends before that.
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
  [[gnu::always_inline]] inline void consume(uint32_t n) noexcept {
    bits <<= n;
    count -= static_cast<int>(n);
  }

 private:
  static BitReader refilled_slowly(BitReader in) noexcept;
};

// One Huffman table, as lookup tables indexed by the next kPeek bits: `symbols_` gives the symbol that the bits begin
// with, and `skip_table_` all symbols that they contain.
class HuffmanTable {
 public:
  static constexpr int kPeek = 10;
  static constexpr uint32_t kBlockSize = 64;

  // The codes must form a prefix code, which libjpeg has checked. Does nothing if the table is that of the last call.
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

  // Skips the AC coefficients of a block.
  [[gnu::always_inline]] inline void skip_ac(BitReader& in) const noexcept {
    for (uint32_t k = 1; k < kBlockSize;) {
      in.refill();
      const uint32_t entry = skip_table_[in.bits >> (64 - kPeek)];
      const uint32_t after = k + (entry >> 7);
      // an entry may contain symbols of the next block: near the end of the block, skip symbol by symbol
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
  // A decoded symbol, from the lowest bits:
  //   8 bits  number of bits to consume: the code and the coefficient
  //   8 bits  number of zeros before the coefficient; kEnd if the block ends
  //   8 bits  size of the coefficient in bits
  //   8 bits  length of the code; 0 if it is longer than kPeek bits
  using Symbol = uint32_t;
  static constexpr uint32_t kEnd = 64;

  // All whole symbols in kPeek bits, from the lowest bits:
  //   6 bits  number of bits to consume; 0 if there is no whole symbol
  //   1 bit   whether the block ends after them
  //   9 bits  number of coefficients, zeros included
  using SkipEntry = uint16_t;
  static constexpr uint32_t kSkipEnd = 64;

  // The index of each coefficient in its block. A run of zeros may lead past the end: like in libjpeg, such an index is
  // the last one of the block. An end-of-block symbol writes its zero there, too.
  static const uint8_t kZigzag[2 * kBlockSize];

  [[gnu::always_inline]] inline Symbol next(BitReader& in) const noexcept {
    in.refill();
    const Symbol symbol = symbols_[in.bits >> (64 - kPeek)];
    if (__builtin_expect(symbol >> 24 != 0, 1)) return symbol;
    const LongSymbol found = long_symbol(in);
    in = found.in;
    return found.symbol;
  }

  // The coefficient, from the bits after the code. It is negative if they begin with a 0.
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
  Symbol symbol_of(uint32_t length, uint32_t value) const noexcept;
  SkipEntry skip_entry(uint32_t peeked) const noexcept;

  Symbol symbols_[1 << kPeek];
  SkipEntry skip_table_[1 << kPeek];
  uint32_t limit_[17];  // by code length: the first 16-bit value after the last code of this length
  int32_t offset_[17];  // by code length: add it to a code to get its index in table_.huffval
  JHUFF_TBL table_;
  bool dc_ = false, built_ = false;
};

}  // namespace lds
