// What a packer is given, and what it gives back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/image_view.h"
#include "packing/image_to_row.h"
#include "packing/sums.h"
#include "transform/geometry.h"

namespace lds {

// One image. What `bytes` or `pixels` point at is the caller's, and stays until the job is done.
struct PackItem {
  std::string path;        // of a file; empty: `bytes` or `pixels`
  int64_t offset = 0;      // a part of the file: `length` bytes from here
  int64_t length = -1;     // -1: the whole file
  std::string_view bytes;  // of an encoded image
  ConstImageView pixels;   // decoded already, interleaved or planar, when `pixels.data` is set
};

// What a job does with each image. The others than `rows` only decode it, for benchmarks: see ImageToRow::decode_only.
enum class PackWork : uint8_t { rows, decode_needed, decode_whole };

struct PackSpec {
  RowSpec row;                         // of the decoded image
  int variants = 1;                    // stored of each image, one after the other
  std::optional<AugmentSpec> augment;  // none: the decoded image itself, once
  uint64_t seed = 0;                   // of the augmentation's draws
  // What a uint8 value is stored as: 256 entries of value_bytes a channel, in order. Empty: itself.
  std::vector<uint8_t> table;
  int value_bytes = 1;
  PackWork work = PackWork::rows;
};

struct PackFailure {
  int64_t item = 0;
  Reason reason = Reason::internal;
  std::string message;
};

struct PackResult {
  std::vector<int32_t> widths, heights;  // of the sources, after orientation; 0 for failed items
  std::vector<uint64_t> hashes;          // of the stored bytes; 0 for failed items
  std::vector<PackFailure> failures;     // by item
  ChannelSums sums;                      // of what was packed, before `table`
};

// Seconds that threads spent, summed over all of them, and bytes that were read from files.
struct PackClock {
  double read = 0, decode = 0, write = 0;
  int64_t bytes_read = 0;
};

}  // namespace lds
