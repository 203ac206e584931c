#include "store/hash.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <algorithm>
#include <vector>

#include "common/error.h"
#include "common/file.h"
#include "common/simd.h"
#include "store/xxh3.h"

namespace lds {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;      // read by a thread at a time; large enough for full disk speed
constexpr int64_t kCachedBytes = int64_t{256} * 1024;  // fits the cache of a core between reading and hashing

using Hash = uint64_t (*)(const uint8_t*, size_t) noexcept;

Hash fastest_hash() noexcept {
#if defined(__x86_64__)
  if (includes_avx2(simd())) return xxh3_avx2;
#endif
  return xxh3;
}

// Asks the kernel to read a part of a file. For a part that is already cached, this request costs a tenth of reading
// it, so the last byte is probed first.
void will_need(int descriptor, int64_t offset, int64_t bytes) noexcept {
  char last = 0;
  const iovec one{&last, 1};
  if (preadv2(descriptor, &one, 1, offset + bytes - 1, RWF_NOWAIT) == 1) return;
  posix_fadvise(descriptor, offset, bytes, POSIX_FADV_WILLNEED);
}

// Reads whole rows, as many as fit into a small buffer, and gives the bytes of each to `use`.
template <class Begin, class Use>
void read_rows(const File& file, int64_t begin, int64_t end, Begin begin_of, std::vector<uint8_t>& buffer, Use use) {
  for (int64_t low = begin; low < end;) {
    int64_t high = low + 1;
    while (high < end && begin_of(high + 1) - begin_of(low) <= kCachedBytes) ++high;
    const int64_t bytes = begin_of(high) - begin_of(low);
    if (static_cast<int64_t>(buffer.size()) < bytes) buffer.resize(static_cast<size_t>(bytes));
    file.read_exactly(buffer.data(), bytes, begin_of(low));
    for (; low < high; ++low) use(low, buffer.data() + begin_of(low) - begin_of(high) + bytes);
  }
}

// `begin_of(i)` is the first byte of row i in the file, and `begin_of(rows)` the end of the last one.
template <class Begin>
void hash_file(const File& file, int64_t rows, Begin begin_of, uint64_t* hashes, ThreadPool& pool) {
  const int64_t mean_bytes = std::max<int64_t>(1, (begin_of(rows) - begin_of(0)) / std::max<int64_t>(1, rows));
  const int64_t grain = std::max<int64_t>(1, kPieceBytes / mean_bytes);
  std::vector<std::vector<uint8_t>> buffers(static_cast<size_t>(pool.size()));
  pool.parallel_for(rows, grain, [&](int64_t begin, int64_t end, int worker) {
    // request the piece that this thread will probably take next, so that the disk reads it while this one is hashed
    const int64_t next = begin + grain * pool.size();
    if (next < rows) {
      will_need(file.descriptor(), begin_of(next), begin_of(std::min(next + grain, rows)) - begin_of(next));
    }
    read_rows(file, begin, end, begin_of, buffers[static_cast<size_t>(worker)],
              [&](int64_t i, const uint8_t* row) { hashes[i] = hash_bytes(row, begin_of(i + 1) - begin_of(i)); });
  });
}

// Found before memory is asked for: the place of a row may be a hostile number.
Error too_short(const std::string& path) { return {Reason::store, path + ": its rows are beyond its end"}; }

}  // namespace

uint64_t hash_bytes(const uint8_t* data, int64_t bytes) noexcept {
  static const Hash hash = fastest_hash();
  return hash(data, static_cast<size_t>(bytes));
}

void hash_rows(const uint8_t* data, int64_t n, int64_t row_bytes, uint64_t* hashes, ThreadPool& pool) {
  const int64_t grain = std::max<int64_t>(1, kPieceBytes / row_bytes);
  pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) hashes[i] = hash_bytes(data + i * row_bytes, row_bytes);
  });
}

void hash_rows(const ShardFile& shard, int64_t row_bytes, uint64_t* hashes, ThreadPool& pool) {
  const File file(shard.path);
  if (shard.rows > (file.status().size - shard.offset) / row_bytes) throw too_short(shard.path);
  hash_file(file, shard.rows, [&](int64_t i) { return shard.offset + i * row_bytes; }, hashes, pool);
}

void hash_rows(const std::string& path, const int64_t* offsets, int64_t rows, uint64_t* hashes, ThreadPool& pool) {
  const File file(path);
  if (offsets[rows] > file.status().size) throw too_short(path);
  hash_file(file, rows, [&](int64_t i) { return offsets[i]; }, hashes, pool);
}

}  // namespace lds
