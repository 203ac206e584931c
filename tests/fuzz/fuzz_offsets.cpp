// Fuzzes the arrays beside the JPEG files of a store: offsets, numbers of rows and of bytes, indices of any size. What
// is taken must be what a plain look at the offsets finds.
#include <cstring>
#include <vector>

#include "memory_file.h"
#include "store/encoded_rows.h"

namespace {

constexpr int64_t kImageBytes = 10000;
constexpr int64_t kArrayOffset = 128;

// The arrays have this many rows, whatever the shard says.
constexpr int kRows = 6;

struct Shard {
  explicit Shard(fuzz::Choices& choices)
      : images(fuzz::pattern(kImageBytes)),
        offsets(array(choices)),
        sizes(std::vector<uint8_t>(kArrayOffset + 4 * kRows)) {
    files.images = images.path();
    files.offsets = offsets.path();
    files.sizes = sizes.path();
    files.rows = fuzz::number(choices, kRows + 2);
    files.bytes = choices.next() % 4 == 0 ? fuzz::number(choices, 2 * kImageBytes) : kImageBytes;
  }

  std::vector<uint8_t> array(fuzz::Choices& choices) {
    std::vector<uint8_t> bytes(kArrayOffset + sizeof values);
    for (int64_t& value : values) value = fuzz::number(choices, kImageBytes + 100);
    std::memcpy(bytes.data() + kArrayOffset, values, sizeof values);
    return bytes;
  }

  bool possible() const {
    return files.rows >= 0 && files.rows <= kRows && files.bytes >= 0 && files.bytes <= kImageBytes;
  }

  int64_t values[kRows + 1];
  fuzz::MemoryFile images, offsets, sizes;
  lds::EncodedShardFiles files;
};

void check_row(const lds::EncodedRows& rows, const std::vector<std::unique_ptr<Shard>>& shards, int64_t index) {
  const Shard* shard = nullptr;
  int64_t row = index;
  for (const auto& each : shards) {
    if (row < 0) break;
    if (row < each->files.rows) {
      shard = each.get();
      break;
    }
    row -= each->files.rows;
  }
  static_cast<void>(rows.will_need(&index, 1));
  static_cast<void>(rows.resident(index));
  try {
    const lds::Extent found = rows.row(index);
    const std::vector<uint8_t> read = rows.read(index);
    fuzz::expect(shard != nullptr);
    const int64_t begin = shard->values[row], end = shard->values[row + 1];
    fuzz::expect(0 <= begin && begin <= end && end <= shard->files.bytes && found.bytes == end - begin);
    fuzz::expect(read == std::vector<uint8_t>(found.data, found.data + found.bytes));
    for (int64_t i = 0; i < found.bytes; ++i) fuzz::expect(found.data[i] == fuzz::byte_at(begin + i));
  } catch (const lds::Error& error) {
    if (shard == nullptr) return fuzz::expect(error.reason() == lds::Reason::index);
    const int64_t begin = shard->values[row], end = shard->values[row + 1];
    fuzz::expect(error.reason() == lds::Reason::store);
    fuzz::expect(begin < 0 || begin > end || end > shard->files.bytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices choices{data, size};
  std::vector<std::unique_ptr<Shard>> shards;
  std::vector<lds::EncodedShardFiles> files;
  bool possible = true;
  for (int i = choices.next() % 3; i >= 0; --i) {
    shards.push_back(std::make_unique<Shard>(choices));
    files.push_back(shards.back()->files);
    possible = possible && shards.back()->possible();
  }
  try {
    const lds::EncodedRows rows(files, kArrayOffset);
    fuzz::expect(possible);
    for (int i = 0; i < 8; ++i) check_row(rows, shards, fuzz::number(choices, 3 * kRows));
  } catch (const lds::Error& error) {
    fuzz::expect(!possible && error.reason() == lds::Reason::store);
  }
  return 0;
}
