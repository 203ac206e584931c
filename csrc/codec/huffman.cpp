#include "codec/huffman.h"

#include <algorithm>

namespace lds {

void EntropyData::begin(const uint8_t* data, const uint8_t* end) noexcept {
  piece_end_ = nullptr;
  position_ = data;
  end_ = end;
  marker_ = 0;
}

// FF 00 encodes the byte FF. FF FF is padding; FF with any other byte is a marker, which ends the data.
const uint8_t* EntropyData::next_piece(const uint8_t* next) noexcept {
  const auto kept = static_cast<size_t>(piece_end_ - next);
  if (kept > 0) std::memmove(buffer_, next, kept);
  uint8_t* to = buffer_ + kept;
  uint8_t* const full = buffer_ + sizeof buffer_ - kWord;
  while (to < full && marker_ == 0 && position_ < end_) {
    const size_t room = std::min(static_cast<size_t>(full - to), static_cast<size_t>(end_ - position_));
    const auto* found = static_cast<const uint8_t*>(std::memchr(position_, 0xFF, room));
    const size_t plain = found ? static_cast<size_t>(found - position_) : room;
    std::memcpy(to, position_, plain);
    to += plain;
    position_ += plain;
    if (!found) continue;
    const uint8_t* after = found + 1;
    while (after < end_ && *after == 0xFF) ++after;
    if (after == end_) {
      position_ = end_;
    } else if (*after == 0) {
      *to++ = 0xFF;
      position_ = after + 1;
    } else {
      marker_ = *after;
    }
  }
  piece_end_ = to;
  std::memset(to, 0, kWord);
  return buffer_;
}

[[gnu::noinline]] BitReader BitReader::refilled_slowly(BitReader in) noexcept {
  if (in.count < 0) return in;
  in.next = in.data->next_piece(in.next);
  for (; in.count < kRefilled && in.next < in.data->piece_end(); in.count += 8) {
    in.bits |= uint64_t{*in.next++} << (56 - in.count);
  }
  in.word = big_endian(in.next);
  return in;
}

const uint8_t HuffmanTable::kZigzag[] = {
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
    // past the end of the block
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63};

void HuffmanTable::build(const JHUFF_TBL& table, bool dc, bool skips) {
  const bool same = built_ && dc == dc_ && std::memcmp(table.bits, table_.bits, sizeof table.bits) == 0 &&
                    std::memcmp(table.huffval, table_.huffval, sizeof table.huffval) == 0;
  if (same && (skips_ || !skips)) return;
  table_ = table;
  dc_ = dc;
  skips_ = skips;
  built_ = true;
  uint32_t code = 0, filled = 0;
  int index = 0;
  for (int length = 1; length <= 16; ++length) {
    offset_[length] = index - static_cast<int>(code);
    for (int i = 0; i < table.bits[length]; ++i, ++index, ++code) {
      if (length > kPeek) continue;
      const Symbol symbol = symbol_of(static_cast<uint32_t>(length), table.huffval[index]);
      const uint32_t copies = 1U << (kPeek - length);
      std::fill_n(symbols_ + filled, copies, symbol);
      if (!dc) set_short_symbols(symbol, filled);
      filled += copies;
    }
    limit_[length] = code << (16 - length);
    code <<= 1;
  }
  std::fill(symbols_ + filled, symbols_ + (1U << kPeek), 0);
  std::fill(short_symbols_ + filled, short_symbols_ + (1U << kPeek), 0);
  for (uint32_t peeked = 0; skips && peeked < 1U << kPeek; ++peeked) skip_table_[peeked] = skip_entry(peeked);
}

// Fills the entries that begin with the code of this symbol, from `first` on.
void HuffmanTable::set_short_symbols(Symbol symbol, uint32_t first) noexcept {
  const uint32_t consumed = symbol & 0xff, length = symbol >> 24, size = symbol >> 16 & 0xff;
  ShortSymbol* to = short_symbols_ + first;
  if (consumed > kPeek) {
    std::fill_n(to, 1U << (kPeek - length), 0);
    return;
  }
  const uint32_t copies = 1U << (kPeek - consumed);
  for (uint32_t bits = 0; bits < 1U << size; ++bits, to += copies) {
    const bool negative = size > 0 && bits < 1U << (size - 1);
    const uint32_t value = negative ? bits - (1U << size) + 1 : bits;
    std::fill_n(to, copies, (symbol & 0xffff) | value << 16);
  }
}

// A code gives the size of a coefficient and, in AC tables, the number of zeros before it. Size 0 means the end of the
// block or, after 15 zeros, one more zero.
HuffmanTable::Symbol HuffmanTable::symbol_of(uint32_t length, uint32_t value) const noexcept {
  const uint32_t size = value & 15, zeros = dc_ ? 0 : value >> 4;
  const bool ends = !dc_ && size == 0 && zeros != 15;
  return (length + size) | (ends ? kEnd : zeros) << 8 | size << 16 | length << 24;
}

HuffmanTable::SkipEntry HuffmanTable::skip_entry(uint32_t peeked) const noexcept {
  uint32_t consumed = 0, count = 0, end = 0;
  while (consumed < kPeek && end == 0) {
    const Symbol symbol = symbols_[(peeked << consumed) % (1U << kPeek)];
    const uint32_t length = symbol >> 24, zeros = symbol >> 8 & 0xff;
    if (length == 0 || consumed + length > kPeek) break;
    consumed += symbol & 0xff;
    if (zeros == kEnd) {
      end = kSkipEnd;
    } else {
      count += zeros + 1;
    }
  }
  return static_cast<SkipEntry>(consumed | end | count << 7);
}

[[gnu::noinline]] HuffmanTable::LongSymbol HuffmanTable::long_symbol(BitReader in) const noexcept {
  const auto bits = static_cast<uint32_t>(in.bits >> 48);
  for (int length = 1; length <= 16; ++length) {
    if (bits < limit_[length]) {
      const int index = static_cast<int>(bits >> (16 - length)) + offset_[length];
      return {in, symbol_of(static_cast<uint32_t>(length), table_.huffval[index & 0xff])};
    }
  }
  // The code is invalid. Near the end of the data, it may be padding: like libjpeg, decide only with 17 bits left.
  if (in.count < 17) {
    in.count = -1;
  } else {
    in.bad = true;
  }
  return {in, kEnd << 8};
}

}  // namespace lds
