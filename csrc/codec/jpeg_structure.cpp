#include "codec/jpeg_structure.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <string_view>

#include "codec/libjpeg.h"

namespace lds {
namespace {

constexpr int kSof0 = 0xC0, kSof1 = 0xC1, kSof2 = 0xC2, kSof10 = 0xCA, kDht = 0xC4, kDac = 0xCC, kRst0 = 0xD0,
              kSos = 0xDA, kDqt = 0xDB, kDri = 0xDD;
constexpr int kApp2 = 0xE2, kCom = 0xFE;

struct Component {
  int id, horizontal, vertical, quantisation;
};

// A segment without its marker and length.
struct Segment {
  const uint8_t* data;
  size_t size;
  int byte(size_t at) const noexcept { return data[at]; }
  int word(size_t at) const noexcept { return data[at] << 8 | data[at + 1]; }
  bool begins_with(std::string_view text) const noexcept {
    return size >= text.size() && std::memcmp(data, text.data(), text.size()) == 0;
  }
};

int ceil_div(int a, int b) noexcept { return (a + b - 1) / b; }

class Inspector {
 public:
  Inspector(const uint8_t* data, size_t size) noexcept : data_(data), size_(size) {}

  JpegStructure inspect() noexcept {
    found_.plain = read_segments() && read_scan();
    if (!found_.plain) found_.end = 0;
    return found_;
  }

 private:
  // Reads up to the data of the first scan, also of a file that is not plain, whose frame counts. False if it is not.
  bool read_segments() noexcept {
    bool plain = true;
    if (size_ < 4 || data_[0] != 0xFF || data_[1] != JPEG_EOI - 1) return false;
    for (at_ = 2;;) {
      while (at_ + 1 < size_ && data_[at_] == 0xFF && data_[at_ + 1] == 0xFF) ++at_;
      if (size_ - at_ < 4 || data_[at_] != 0xFF) return false;
      const int code = data_[at_ + 1];
      const size_t length = static_cast<size_t>(data_[at_ + 2] << 8 | data_[at_ + 3]);
      if (length < 2 || length > size_ - at_ - 2) return false;
      const Segment segment{data_ + at_ + 4, length - 2};
      at_ += 2 + length;
      if (code == kSos) return plain && read_scan_header(segment);
      plain = read_segment(code, segment) && plain;
    }
  }

  bool read_segment(int code, const Segment& segment) noexcept {
    if (code == kDqt) return read_quantisation(segment);
    if (code == kDht) return read_huffman(segment);
    if (code == kDri) {
      if (segment.size != 2) return false;
      interval_ = segment.word(0);
      return true;
    }
    if (code >= kSof0 && code <= 0xCF && code != 0xC8 && code != kDac) return read_frame(code, segment);
    if (code == kCom || (code >= 0xE0 && code <= 0xEF)) return read_metadata(code, segment);
    return false;
  }

  // Multi-picture files have a list of offsets to images behind the first one, which does not stay true.
  bool read_metadata(int code, const Segment& segment) noexcept {
    const bool jfif = code == 0xE0 && segment.begins_with({"JFIF\0", 5}) && segment.size == 14;
    const bool adobe = code == 0xEE && segment.begins_with("Adobe") && segment.size == 12;
    if (!jfif && !adobe) found_.metadata += segment.size + 4;
    return code != kApp2 || !segment.begins_with({"MPF\0", 4});
  }

  bool read_frame(int code, const Segment& segment) noexcept {
    if (found_.components != 0 || segment.size < 6 || segment.byte(5) == 0) return false;
    found_.height = segment.word(1);
    found_.width = segment.word(3);
    const int count = segment.byte(5);
    found_.components = count;
    found_.progressive = code == kSof2 || code == kSof10;
    if (segment.size != 6 + size_t{3} * static_cast<size_t>(count)) return false;
    const bool sides =
        std::min(found_.width, found_.height) >= 1 && std::max(found_.width, found_.height) <= JPEG_MAX_DIMENSION;
    if ((code != kSof0 && code != kSof1) || segment.byte(0) != 8 || !sides || (count != 1 && count != 3)) return false;
    for (int c = 0; c < count; ++c) {
      const size_t at = 6 + size_t{3} * static_cast<size_t>(c);
      components_[c] = {segment.byte(at), segment.byte(at + 1) >> 4, segment.byte(at + 1) & 15, segment.byte(at + 2)};
    }
    return check_sampling();
  }

  // As libjpeg decodes it: whole factors from 1 to 4, and at most 10 blocks an MCU.
  bool check_sampling() noexcept {
    int blocks = 0;
    for (int c = 0; c < found_.components; ++c) {
      const auto& [id, horizontal, vertical, quantisation] = components_[c];
      if (std::clamp(horizontal, 1, 4) != horizontal || std::clamp(vertical, 1, 4) != vertical || quantisation > 3) {
        return false;
      }
      max_h_ = std::max(max_h_, horizontal);
      max_v_ = std::max(max_v_, vertical);
      blocks += horizontal * vertical;
    }
    for (int c = 0; c < found_.components; ++c) {
      if (max_h_ % components_[c].horizontal != 0 || max_v_ % components_[c].vertical != 0) return false;
    }
    blocks_in_mcu_ = found_.components == 1 ? 1 : blocks;
    return blocks_in_mcu_ <= D_MAX_BLOCKS_IN_MCU;
  }

  bool read_quantisation(Segment segment) noexcept {
    while (segment.size > 0) {
      const int precision = segment.byte(0) >> 4, number = segment.byte(0) & 15;
      const size_t length = precision == 0 ? 65 : 129;
      if (precision > 1 || number > 3 || segment.size < length) return false;
      has_quantisation_[number] = true;
      segment = {segment.data + length, segment.size - length};
    }
    return true;
  }

  bool read_huffman(Segment segment) noexcept {
    while (segment.size > 0) {
      if (segment.size < 17) return false;
      const int kind = segment.byte(0) >> 4, number = segment.byte(0) & 15;
      const size_t symbols = std::accumulate(segment.data + 1, segment.data + 17, size_t{0});
      if (kind > 1 || number > 3 || symbols > 256 || segment.size < 17 + symbols) return false;
      if (!is_code(segment.data + 1)) return false;
      const uint8_t* values = segment.data + 17;
      if (kind == 0 && std::any_of(values, values + symbols, [](uint8_t value) { return value > 15; })) return false;
      has_huffman_[kind][number] = true;
      segment = {segment.data + 17 + symbols, segment.size - 17 - symbols};
    }
    return true;
  }

  // Whether so many codes of 1 to 16 bits exist, none of which is all ones.
  static bool is_code(const uint8_t* counts) noexcept {
    uint32_t code = 0;
    for (int bits = 1; bits <= 16; ++bits) {
      code += counts[bits - 1];
      if (counts[bits - 1] != 0 && code >= (uint32_t{1} << bits)) return false;
      code <<= 1;
    }
    return true;
  }

  bool read_scan_header(const Segment& segment) noexcept {
    const int count = found_.components;
    if (count == 0 || segment.size != 4 + size_t{2} * static_cast<size_t>(count) || segment.byte(0) != count) {
      return false;
    }
    for (int c = 0; c < count; ++c) {
      const size_t at = 1 + size_t{2} * static_cast<size_t>(c);
      const int dc = segment.byte(at + 1) >> 4, ac = segment.byte(at + 1) & 15;
      const bool tables = dc <= 3 && ac <= 3 && has_huffman_[0][dc] && has_huffman_[1][ac];
      if (segment.byte(at) != components_[c].id || !tables || !has_quantisation_[components_[c].quantisation]) {
        return false;
      }
    }
    const size_t at = segment.size - 3;
    return segment.byte(at) == 0 && segment.byte(at + 1) == 63 && segment.byte(at + 2) == 0;
  }

  // The data hold restart markers in order and no other marker, as many as the image needs, and two bits or more for
  // each block, the least that a block takes.
  bool read_scan() noexcept {
    const bool single = found_.components == 1;
    const int columns = ceil_div(found_.width, 8 * (single ? 1 : max_h_));
    const int rows = ceil_div(found_.height, 8 * (single ? 1 : max_v_));
    const int64_t mcus = int64_t{columns} * rows;
    const int64_t restarts = interval_ == 0 ? 0 : (mcus - 1) / interval_;
    found_.row_restarts = rows == 1 || interval_ == columns;
    const size_t begin = at_;
    for (int64_t seen = 0;;) {
      const void* next = at_ < size_ ? std::memchr(data_ + at_, 0xFF, size_ - at_) : nullptr;
      if (!next) return false;
      at_ = static_cast<size_t>(static_cast<const uint8_t*>(next) - data_) + 2;
      if (at_ > size_) return false;
      const int code = data_[at_ - 1];
      if (code == JPEG_EOI) {
        found_.end = at_;
        return seen == restarts && static_cast<int64_t>(at_ - begin - 2) * 8 >= 2 * mcus * blocks_in_mcu_;
      }
      if (code != 0 && code != kRst0 + static_cast<int>(seen++ % 8)) return false;
    }
  }

  const uint8_t* data_;
  size_t size_, at_ = 0;
  JpegStructure found_;
  std::array<Component, 3> components_{};
  std::array<bool, 4> has_quantisation_{};
  std::array<std::array<bool, 4>, 2> has_huffman_{};
  int interval_ = 0, max_h_ = 1, max_v_ = 1, blocks_in_mcu_ = 1;
};

}  // namespace

JpegStructure inspect_jpeg(const uint8_t* data, size_t size) noexcept { return Inspector(data, size).inspect(); }

}  // namespace lds
