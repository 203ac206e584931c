// The inputs and results of a Packer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/image_view.h"
#include "convert/pixel_type.h"
#include "packing/image_to_jpeg.h"
#include "packing/image_to_row.h"
#include "packing/sums.h"
#include "transform/geometry.h"

namespace lds {

// One image. The caller owns the memory of `bytes` and `pixels`, and keeps it until the job is done.
struct PackItem {
  std::string path;                   // of a file; empty if `bytes` or `pixels` is set
  int64_t offset = 0;                 // first byte of the image in the file
  int64_t length = -1;                // number of bytes; -1: the whole file
  std::string_view bytes;             // an encoded image
  ConstImageView pixels;              // a decoded image, interleaved or planar, if `pixels.data` is set
  PixelType type = PixelType::uint8;  // of its values
};

// What a job does with each image: makes rows, or, for benchmarks, only decodes it (see ImageToRow::decode_only).
enum class PackWork : uint8_t { rows, decode_needed, decode_whole };

struct PackSpec {
  RowSpec row;                         // of the decoded image
  int variants = 1;                    // stored variants per image, contiguous
  std::optional<AugmentSpec> augment;  // without it, the decoded image is stored once
  uint64_t seed = 0;                   // of the augmentation's random draws
  // The stored value for each uint8 value: 256 entries of value_bytes bytes per channel. Empty: the value itself.
  std::vector<uint8_t> table;
  int value_bytes = 1;
  PackWork work = PackWork::rows;
  std::optional<JpegSpec> jpeg;  // rows are JPEG files; augment, table and work have no meaning then
  bool png = false;              // rows are PNG files of masks, or of other pictures with `values`; the same
  // Images are arrays of values of this type, which their rows keep; augment and table have no meaning then.
  std::optional<PixelType> values;

  bool files() const noexcept { return jpeg.has_value() || png; }
};

struct PackFailure {
  int64_t item = 0;
  Reason reason = Reason::internal;
  std::string message;
};

// Of rows that are files: an entry for each item, without meaning for failed items.
struct JpegResult {
  std::vector<uint8_t> kept;
  std::vector<int64_t> bytes;  // of the row; 0 for failed items
  std::vector<uint16_t> heights, widths;
  std::vector<uint8_t> orientations;
  std::vector<int32_t> psnr;
  std::vector<int64_t> source_bytes;  // of the encoded image, or of the pixels
};

struct PackResult {
  std::vector<int32_t> widths, heights;  // of the source images, after orientation; 0 for failed items
  std::vector<uint64_t> hashes;          // of the stored bytes; 0 for failed items
  std::vector<PackFailure> failures;     // sorted by item
  ChannelSums sums;                      // of the packed uint8 values, before `table`
  JpegResult jpeg;                       // empty unless the rows are files
};

// Seconds per phase, summed over all threads, and the number of bytes read from files.
struct PackClock {
  double read = 0, decode = 0, write = 0;
  int64_t bytes_read = 0;
};

}  // namespace lds
