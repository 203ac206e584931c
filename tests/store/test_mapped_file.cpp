// Tests which rows are requested ahead, by whoever reads the file.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "common/error.h"
#include "common/file.h"
#include "store/fixed_rows.h"

namespace {

constexpr int64_t kRows = 32, kRowBytes = int64_t{64} << 10;

// A file that everybody may read.
struct Rows {
  std::string path = "largeds_mapped_XXXXXX";  // in the working folder: /tmp may be in memory
  Rows() {
    const int descriptor = mkstemp(path.data());
    REQUIRE(descriptor >= 0);
    const std::vector<uint8_t> bytes(static_cast<size_t>(kRows * kRowBytes), 7);
    lds::write_exactly(descriptor, bytes.data(), kRows * kRowBytes, 0);
    fchmod(descriptor, 0644);
    fsync(descriptor);
    close(descriptor);
  }
  ~Rows() { unlink(path.c_str()); }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;

  void forget() const {
    const lds::File file(path);
    posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
  }
  lds::FixedRows open() const { return lds::FixedRows({{path, 0, kRows}}, kRowBytes); }
};

// The number of rows that are requested when none is in memory, and that look absent when all are.
struct Requested {
  int64_t cold = 0, warm = 0;
};
Requested requested(const Rows& file) {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < kRows; ++i) all.push_back(i);
  Requested found;
  file.forget();
  const lds::FixedRows rows = file.open();
  if (!rows.resident(3)) found.cold = rows.will_need(all.data(), kRows);
  std::vector<uint8_t> out(static_cast<size_t>(kRowBytes * kRows));
  rows.read(all.data(), kRows, out.data());
  for (int64_t i = 0; i < kRows; ++i) found.warm += !rows.resident(i);
  return found;
}

}  // namespace

TEST_CASE("rows that are not in memory are requested, those that are are not") {
  const Rows file;
  const Requested found = requested(file);
  CHECK(found.cold > kRows / 2);
  CHECK(found.warm == 0);
}

TEST_CASE("so they are for a reader who does not own the file and may not write to it") {
  if (getuid() != 0) {
    MESSAGE("skipped: only root can become another user");
    return;
  }
  const Rows file;
  const pid_t child = fork();
  if (child == 0) {
    if (setuid(65534) != 0) _exit(2);
    _exit(requested(file).cold > kRows / 2 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

TEST_CASE("a file that can't be mapped is named, and what to do is said") {
  const std::string path = "/sys/kernel/mm/transparent_hugepage/enabled";
  if (access(path.c_str(), R_OK) != 0) return;
  CHECK_THROWS_WITH_AS(
      lds::MappedFile(path, 1),
      ("can't map " + path + ": its file system does not support mmap. Copy the store to another file system.").c_str(),
      lds::Error);
}

TEST_CASE("files that arrive later are mapped at first use, and again after they were released") {
  Rows file;
  const std::string later = file.path + "_later";
  const lds::FixedRows rows({{later, 0, kRows}, {file.path, 0, kRows}}, kRowBytes, lds::Files::arriving);
  CHECK_THROWS_AS(rows.row(0), lds::Error);
  REQUIRE(link(file.path.c_str(), later.c_str()) == 0);
  CHECK(rows.row(0).data[0] == 7);
  std::thread reader([&] {  // the other part is read meanwhile
    for (int64_t i = 0; i < 1000; ++i) CHECK(rows.row(kRows + i % kRows).data[0] == 7);
  });
  for (int i = 0; i < 1000; ++i) {
    rows.release(i % kRows);
    CHECK(rows.row(i % kRows).data[0] == 7);
  }
  reader.join();
  unlink(later.c_str());
  rows.release(0);
  rows.release(0);
  rows.release(2 * kRows);  // no such row
  CHECK_THROWS_AS(rows.row(0), lds::Error);
}
