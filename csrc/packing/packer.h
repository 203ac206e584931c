// Images -> rows of a file, on all processors: read, decode, resize, crop, augment, convert, count, hash, write.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/image_view.h"
#include "packing/image_to_row.h"
#include "packing/sums.h"
#include "transform/sample_spec.h"

namespace lds {

// One image. What `bytes` or `pixels` point at is the caller's, and stays until the job is done.
struct PackItem {
  std::string path;        // of a file; empty: `bytes` or `pixels`
  int64_t offset = 0;      // a part of the file: `length` bytes from here
  int64_t length = -1;     // -1: the whole file
  std::string_view bytes;  // of an encoded image
  ConstImageView pixels;   // decoded already, interleaved or planar, when `pixels.data` is set
};

struct PackSpec {
  RowSpec row;                        // of the decoded image
  int versions = 1;                   // stored of each image, one after the other
  std::optional<SampleSpec> augment;  // none: the decoded image itself, once
  uint64_t seed = 0;                  // of the augmentation's draws
  // What a uint8 value is stored as: 256 entries of value_bytes a channel, in order. Empty: itself.
  std::vector<uint8_t> table;
  int value_bytes = 1;
};

// Where rows go: item i of a job to row `rows[i]` (row i without `rows`), at offset + row * sample_bytes().
struct PackTarget {
  int descriptor = -1;  // -1: nowhere; rows are only hashed and counted
  int64_t offset = 0;
  std::vector<int64_t> rows;
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

// One job at a time, on threads of its own; call it from one thread. Keeps its buffers between jobs.
class Packer {
 public:
  Packer(const PackSpec& spec, int threads);
  ~Packer();  // cancels a job that runs, and waits for it
  Packer(const Packer&) = delete;
  Packer& operator=(const Packer&) = delete;

  int64_t sample_bytes() const noexcept;  // stored for one image, with all its versions

  // Starts a job and returns at once. samples[i] is item i's number in the augmentation's draws.
  void start(std::vector<PackItem> items, std::vector<int64_t> samples, PackTarget target);

  // Waits at most so long; true when the job is done.
  bool wait(double seconds);

  // Items done so far. Any thread may ask.
  int64_t done() const noexcept;

  // No further image is begun.
  void cancel() noexcept;

  // Waits for the job. An error that is no image's own (a full disk) is thrown here.
  PackResult result();

  // Over all jobs so far; while none runs.
  PackClock clock() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lds
