// Finds the orientation of an image as Pillow's ImageOps.exif_transpose does: in the EXIF block, else in XMP.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lds {

constexpr int kNoOrientation = -1;

// The Orientation tag of a TIFF structure ("II*\0..." or "MM\0*..."; a leading "Exif\0\0" is skipped).
// kNoOrientation if the tag is missing or the block is damaged before it; else 1-8, or 0 for an invalid value. Never
// reads outside of `block`.
int64_t exif_orientation(std::string_view block) noexcept;

// The digit after tiff:Orientation in an XMP packet, or kNoOrientation.
int64_t xmp_orientation(std::string_view packet) noexcept;

// Combines the two: the EXIF value, or the XMP value without one; 1 unless the result is 1-8.
int merge_orientation(int64_t from_exif, int64_t from_xmp) noexcept;

// The orientation (1-8) in the APP1 segments before the first scan of a JPEG file.
int jpeg_orientation(const uint8_t* data, size_t size);

}  // namespace lds
