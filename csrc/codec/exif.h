// The orientation of an image, as Pillow's ImageOps.exif_transpose finds it: in the EXIF block, else in XMP.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lds {

constexpr int kNoOrientation = -1;

// The Orientation tag of a TIFF structure ("II*\0..." or "MM\0*..."; a leading "Exif\0\0" is skipped).
// kNoOrientation when the tag is not there or the block is damaged before it; else its value, which may be
// any number. Reads nothing outside `block`.
int64_t exif_orientation(std::string_view block) noexcept;

// The digit after tiff:Orientation in an XMP packet, or kNoOrientation.
int64_t xmp_orientation(std::string_view packet) noexcept;

// What the two say together: 1-8, and 1 for anything else.
int merge_orientation(int64_t from_exif, int64_t from_xmp) noexcept;

// The orientation that the APP1 segments before the first scan of a JPEG give, 1-8.
int jpeg_orientation(const uint8_t* data, size_t size);

}  // namespace lds
