// Tests the look at memory before a write to it.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "common/writable.h"

using namespace lds;

TEST_CASE("memory that may not be written to is told, and none is changed") {
  std::vector<uint8_t> own(1000);
  for (size_t i = 0; i < own.size(); ++i) own[i] = static_cast<uint8_t>(i);
  const std::vector<uint8_t> before = own;
  for (int64_t first = 0; first < 9; ++first) CHECK(is_writable(own.data() + first, 900));
  CHECK(own == before);
  CHECK(is_writable(nullptr, 0));

  const int64_t page = sysconf(_SC_PAGESIZE);
  const auto size = static_cast<size_t>(3 * page);
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(mapped != MAP_FAILED);
  auto* data = static_cast<uint8_t*>(mapped);
  CHECK(is_writable(data, 3 * page));
  REQUIRE(mprotect(data + 2 * page, static_cast<size_t>(page), PROT_READ) == 0);
  CHECK(is_writable(data, 2 * page));
  CHECK_FALSE(is_writable(data + 1, 2 * page));
  CHECK_FALSE(is_writable(data + 2 * page + 5, 1));
  munmap(mapped, size);
}
