// Decodes the Huffman codes of sequential JPEG files (ITU-T T.81, annex F), which takes more than half of libjpeg's
// decoding time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "codec/libjpeg.h"

namespace lds {

// The entropy-coded data of a scan up to the next marker, without the bytes that are stuffed after each FF: reading
// bits then needs no look at the bytes. A piece is prepared at a time, since often only the first part of a scan is
// needed.
class EntropyData {
 public:
  void begin(const uint8_t* data, const uint8_t* end) noexcept;

  // Keeps the bytes from `next` to the end of the last piece, which are fewer than kMaxKept, and appends the next
  // piece. Returns where they begin now. kWord bytes may be read from any byte of a piece.
  const uint8_t* next_piece(const uint8_t* next) noexcept;

  const uint8_t* piece_end() const noexcept { return piece_end_; }  // of the last piece
  int marker() const noexcept { return marker_; }                   // that ends the data; 0 as long as none was found
  const uint8_t* position() const noexcept { return position_; }    // of the first byte that is in no piece

 private:
  static constexpr size_t kPieceBytes = 2048, kMaxKept = 8, kWord = 8;

  const uint8_t* piece_end_ = nullptr;
  const uint8_t* position_ = nullptr;
  const uint8_t* end_ = nullptr;
  int marker_ = 0;
  uint8_t buffer_[kMaxKept + kPieceBytes + kWord];
};

// Reads the data bit by bit. It is passed by value, so that a loop can keep it in registers.
struct BitReader {
  uint64_t bits = 0;  // the next bits, left-aligned; zeros after the end of the data
  int count = 0;      // number of valid bits; negative once more bits were consumed than the data has
  bool bad = false;   // an invalid code was found
  const uint8_t* next = nullptr;
  // The eight bytes at `next`, loaded when `next` was set: refill() would otherwise wait for them. Zeros follow the
  // data.
  uint64_t word = 0;
  EntropyData* data = nullptr;

  static constexpr int kMaxSymbol = 31;  // a code has at most 16 bits and a value at most 15
  static constexpr int kRefilled = 56;   // what refill() raises `count` to, at least

  // Raises `count` to at least kRefilled, unless the data ends before that.
  [[gnu::always_inline]] inline void refill() noexcept {
    if (__builtin_expect(data->piece_end() - next >= 8, 1)) {
      bits |= word >> count;  // bits after the last whole byte are read again, to the same place
      next += (63 - count) >> 3;
      count |= kRefilled;
      word = big_endian(next);
    } else {
      *this = refilled_slowly(*this);
    }
  }
  [[gnu::always_inline]] inline void consume(uint32_t n) noexcept {
    bits <<= n;
    count -= static_cast<int>(n);
  }

 private:
  [[gnu::always_inline]] static inline uint64_t big_endian(const uint8_t* bytes) noexcept {
    uint64_t word = 0;
    std::memcpy(&word, bytes, sizeof word);
    return __builtin_bswap64(word);
  }
  static BitReader refilled_slowly(BitReader in) noexcept;
};

// One Huffman table, as lookup tables indexed by the next kPeek bits: `symbols_` gives the symbol that the bits begin
// with, and `skip_table_` all symbols that they contain.
class HuffmanTable {
 public:
  static constexpr int kPeek = 10;
  static constexpr uint32_t kBlockSize = 64;

  // The codes must form a prefix code, which libjpeg has checked. Does nothing if the table is that of the last call.
  // `skips`: blocks will be skipped often enough to prepare for it.
  void build(const JHUFF_TBL& table, bool dc, bool skips);

  // Reads the DC difference. Expects a refilled reader, and refills at the end.
  [[gnu::always_inline]] inline int32_t read_dc(BitReader& in) const noexcept {
    const Symbol symbol = next(in);
    const int32_t value = value_of(in, symbol);
    in.consume(symbol & 0xff);
    in.refill();
    return value;
  }

  // Reads the AC coefficients into a block of zeros. Expects a refilled reader, and refills at the end.
  [[gnu::always_inline]] inline void read_ac(BitReader& in, JCOEF* block) const noexcept {
    static_assert(2 * kPeek + BitReader::kMaxSymbol <= BitReader::kRefilled);
    for (uint32_t k = 1; k < kBlockSize;) {  // at most two short symbols and another one for each refill
      if (read_short(in, block, k) && k < kBlockSize) read_short(in, block, k);
      if (k < kBlockSize) read_any(in, block, k);
      in.refill();
    }
  }

  // Skips the AC coefficients of a block. Expects a refilled reader, and refills at the end.
  [[gnu::always_inline]] inline void skip_ac(BitReader& in) const noexcept {
    if (!skips_) {
      for (uint32_t k = 1; k < kBlockSize;) skip_any(in, k);
      return;
    }
    for (uint32_t k = 1; k < kBlockSize;) {
      const uint32_t entry = skip_table_[in.bits >> (64 - kPeek)];
      const uint32_t after = k + (entry >> 7);
      // an entry may contain symbols of the next block: near the end of the block, skip symbol by symbol
      if (__builtin_expect((entry & 63) != 0 && after < kBlockSize, 1)) {
        in.consume(entry & 63);
        k = (entry & kSkipEnd) != 0 ? kBlockSize : after;
        in.refill();
      } else {
        skip_any(in, k);
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

  // A short AC symbol: its code and its coefficient together have at most kPeek bits. From the lowest bits:
  //   8 bits  number of bits to consume; 0 if the symbol is longer
  //   8 bits  number of zeros before the coefficient; kEnd if the block ends
  //  16 bits  the coefficient
  using ShortSymbol = uint32_t;

  // All whole symbols in kPeek bits, from the lowest bits:
  //   6 bits  number of bits to consume; 0 if there is no whole symbol
  //   1 bit   whether the block ends after them
  //   9 bits  number of coefficients, zeros included
  using SkipEntry = uint16_t;
  static constexpr uint32_t kSkipEnd = 64;

  // The index of each coefficient in its block. A run of zeros may lead past the end: like in libjpeg, such an index is
  // the last one of the block. An end-of-block symbol writes its zero there, too.
  static const uint8_t kZigzag[2 * kBlockSize];

  // Reads the next coefficient if its symbol is short, and sets k behind it.
  [[gnu::always_inline]] inline bool read_short(BitReader& in, JCOEF* block, uint32_t& k) const noexcept {
    const ShortSymbol symbol = short_symbols_[in.bits >> (64 - kPeek)];
    if (__builtin_expect((symbol & 0xff) == 0, 0)) return false;
    k += symbol >> 8 & 0xff;
    block[kZigzag[k]] = static_cast<JCOEF>(symbol >> 16);
    ++k;
    in.consume(symbol & 0xff);
    return true;
  }

  [[gnu::always_inline]] inline void read_any(BitReader& in, JCOEF* block, uint32_t& k) const noexcept {
    const Symbol symbol = next(in);
    k += symbol >> 8 & 0xff;
    block[kZigzag[k]] = static_cast<JCOEF>(value_of(in, symbol));
    ++k;
    in.consume(symbol & 0xff);
  }

  [[gnu::always_inline]] inline void skip_any(BitReader& in, uint32_t& k) const noexcept {
    const Symbol symbol = next(in);
    in.consume(symbol & 0xff);
    k += (symbol >> 8 & 0xff) + 1;
    in.refill();
  }

  // Expects at least kMaxSymbol bits, unless the data ends before that.
  [[gnu::always_inline]] inline Symbol next(BitReader& in) const noexcept {
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
  void set_short_symbols(Symbol symbol, uint32_t first) noexcept;

  Symbol symbols_[1 << kPeek];
  ShortSymbol short_symbols_[1 << kPeek];
  SkipEntry skip_table_[1 << kPeek];
  uint32_t limit_[17];  // by code length: the first 16-bit value after the last code of this length
  int32_t offset_[17];  // by code length: add it to a code to get its index in table_.huffval
  JHUFF_TBL table_;
  bool dc_ = false, skips_ = false, built_ = false;
};

}  // namespace lds
