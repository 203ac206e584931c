#include "codec/exif.h"

#include <array>
#include <string>

namespace lds {
namespace {

constexpr uint64_t kOrientationTag = 0x0112;

// Reads numbers of a TIFF structure in its byte order. The caller checks the bounds with holds().
struct TiffReader {
  std::string_view bytes;
  bool big_endian;

  uint64_t number(size_t offset, size_t width) const noexcept {
    uint64_t value = 0;
    for (size_t i = 0; i < width; ++i) {
      const size_t at = big_endian ? offset + i : offset + width - 1 - i;
      value = (value << 8) | static_cast<uint8_t>(bytes[at]);
    }
    return value;
  }
  bool holds(uint64_t offset, uint64_t length) const noexcept {
    return offset <= bytes.size() && length <= bytes.size() - offset;
  }
};

struct TagType {
  uint8_t bytes;  // 0: unknown
  bool integer;
  bool is_signed;
};

// TIFF's types by number. Only integer types can hold an orientation.
constexpr std::array<TagType, 17> kTypes{{{0, false, false},
                                          {1, false, false},
                                          {1, false, false},
                                          {2, true, false},
                                          {4, true, false},
                                          {8, false, false},
                                          {1, true, true},
                                          {1, false, false},
                                          {2, true, true},
                                          {4, true, true},
                                          {8, false, false},
                                          {4, false, false},
                                          {8, false, false},
                                          {4, true, false},
                                          {0, false, false},
                                          {0, false, false},
                                          {8, true, false}}};

std::string_view without_exif_prefix(std::string_view block) noexcept {
  constexpr std::string_view kPrefix("Exif\0\0", 6);
  for (int i = 0; i < 2 && block.substr(0, 6) == kPrefix; ++i) block.remove_prefix(6);
  return block;
}

// Markers that are not followed by the length of a segment.
bool has_no_length(uint8_t code) noexcept {
  return code == 0 || code == 0x01 || code == 0xC8 || (code >= 0xD0 && code <= 0xD9) || (code >= 0xF0 && code <= 0xFD);
}

}  // namespace

// The loop follows ImageFileDirectory_v2.load of Pillow's TiffImagePlugin: the first readable entry of a tag counts,
// and an entry whose data lies outside the block ends the list.
int64_t exif_orientation(std::string_view block) noexcept {
  block = without_exif_prefix(block);
  if (block.size() < 8) return kNoOrientation;
  const std::string_view order = block.substr(0, 2);
  if (order != "II" && order != "MM") return kNoOrientation;
  const TiffReader tiff{block, order == "MM"};
  if (tiff.number(2, 2) != 42) return kNoOrientation;
  const uint64_t directory = tiff.number(4, 4);
  if (!tiff.holds(directory, 2)) return kNoOrientation;

  const uint64_t entries = tiff.number(directory, 2);
  uint64_t outside_bytes = 0;
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t entry = directory + 2 + i * 12;
    if (!tiff.holds(entry, 12)) return kNoOrientation;
    const uint64_t tag = tiff.number(entry, 2), type = tiff.number(entry + 2, 2), count = tiff.number(entry + 4, 4);
    if (type >= kTypes.size() || kTypes[type].bytes == 0 || count == 0) continue;
    uint64_t value = entry + 8;
    const uint64_t length = count * kTypes[type].bytes;
    if (length > 4) {
      outside_bytes += length;
      if (outside_bytes > block.size()) continue;
      value = tiff.number(entry + 8, 4);
      if (!tiff.holds(value, length)) return kNoOrientation;
    }
    if (tag != kOrientationTag) continue;
    if (!kTypes[type].integer) return 0;  // the tag exists, but is not an integer
    const size_t width = kTypes[type].bytes;
    const uint64_t number = tiff.number(value, width);
    const bool negative = kTypes[type].is_signed && (number >> (width * 8 - 1)) != 0;
    return negative || number > 8 ? 0 : static_cast<int64_t>(number);
  }
  return kNoOrientation;
}

int64_t xmp_orientation(std::string_view packet) noexcept {
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = packet.find(kName); at != std::string_view::npos; at = packet.find(kName, at + 1)) {
    std::string_view rest = packet.substr(at + kName.size());
    if (rest.substr(0, 2) == "=\"") {
      rest.remove_prefix(2);
    } else if (rest.substr(0, 1) == ">") {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return kNoOrientation;
}

int merge_orientation(int64_t from_exif, int64_t from_xmp) noexcept {
  const int64_t value = from_exif != kNoOrientation ? from_exif : from_xmp;
  return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
}

int jpeg_orientation(const uint8_t* data, size_t size) {
  constexpr std::string_view kExif("Exif\0\0", 6), kXmp("http://ns.adobe.com/xap/1.0/\0", 29);
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::string joined;          // for an EXIF block that spans several segments
  std::string_view exif, xmp;  // of several XMP packets, the last one counts
  size_t at = 2;
  while (at + 4 <= size) {
    if (data[at] != 0xFF) {
      ++at;
      continue;
    }
    const uint8_t code = data[at + 1];
    if (code == 0xFF) {  // fill byte
      ++at;
      continue;
    }
    if (code == 0xDA) break;
    if (has_no_length(code)) {
      at += 2;
      continue;
    }
    const size_t length = (size_t{data[at + 2]} << 8) | data[at + 3];
    if (length < 2 || length > size - at - 2) break;
    const std::string_view segment = bytes.substr(at + 4, length - 2);
    if (code == 0xE1 && segment.substr(0, 6) == kExif) {
      if (exif.empty()) {
        exif = segment;
      } else {
        if (joined.empty()) joined = exif;
        exif = joined.append(segment.substr(6));
      }
    } else if (code == 0xE1 && segment.substr(0, 29) == kXmp) {
      xmp = segment.substr(29);
    }
    at += 2 + length;
  }
  return merge_orientation(exif_orientation(exif), xmp_orientation(xmp));
}

}  // namespace lds
