#include "store/hash.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <algorithm>
#include <mutex>

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
  if (simd() == Simd::avx2) return xxh3_avx2;
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

std::vector<int64_t> damaged_rows(const ShardFile& file, int64_t row_bytes, const uint64_t* expected,
                                  ThreadPool& pool) {
  const File shard(file.path);
  const int64_t grain = std::max<int64_t>(1, kPieceBytes / row_bytes);
  const int64_t step = std::max<int64_t>(1, kCachedBytes / row_bytes);
  std::vector<std::vector<uint8_t>> buffers(static_cast<size_t>(pool.size()));
  std::vector<int64_t> damaged;
  std::mutex mutex;
  pool.parallel_for(file.rows, grain, [&](int64_t begin, int64_t end, int worker) {
    // request the piece that this thread will probably take next, so that the disk reads it while this one is hashed
    const int64_t next = begin + grain * pool.size();
    if (next < file.rows) {
      will_need(shard.descriptor(), file.offset + next * row_bytes, std::min(grain, file.rows - next) * row_bytes);
    }
    std::vector<uint8_t>& buffer = buffers[static_cast<size_t>(worker)];
    buffer.resize(static_cast<size_t>(step * row_bytes));
    for (int64_t low = begin; low < end; low += step) {
      const int64_t high = std::min(low + step, end);
      shard.read_exactly(buffer.data(), (high - low) * row_bytes, file.offset + low * row_bytes);
      for (int64_t i = low; i < high; ++i) {
        if (hash_bytes(buffer.data() + (i - low) * row_bytes, row_bytes) == expected[i]) continue;
        const std::lock_guard<std::mutex> lock(mutex);
        damaged.push_back(i);
      }
    }
  });
  std::sort(damaged.begin(), damaged.end());
  return damaged;
}

}  // namespace lds
