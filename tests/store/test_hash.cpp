// Tests the hash kernels. Hashes are stored, so every processor must compute the same ones.
#include <doctest/doctest.h>

#include <vector>

#include "store/hash.h"
#include "store/xxh3.h"

TEST_CASE("every kernel gives the XXH3 hash, for any length and alignment") {
  std::vector<uint8_t> bytes(5000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 131 + i / 7);
  for (size_t n = 0; n < bytes.size() - 8; n += n < 600 ? 1 : 97) {
    const uint8_t* data = bytes.data() + n % 8;
    const uint64_t expected = lds::xxh3(data, n);
    CHECK(lds::hash_bytes(data, static_cast<int64_t>(n)) == expected);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) CHECK(lds::xxh3_avx2(data, n) == expected);
#endif
  }
  CHECK(lds::xxh3(bytes.data(), 0) == 0x2D06800538D394C2ULL);  // the hash of no bytes in the test vectors of XXH3
}
