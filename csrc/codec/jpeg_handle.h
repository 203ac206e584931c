// Wraps libjpeg in functions that neither throw nor longjmp: each returns false if libjpeg reported an error.
#pragma once

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "codec/codec.h"
#include "codec/huffman_scan.h"
#include "codec/libjpeg.h"
#include "common/error.h"

namespace lds {

// The first members of libjpeg's internal jpeg_entropy_decoder, unchanged since version 6b. jpeg_library.cpp checks.
struct EntropyDecoder {
  void (*start_pass)(j_decompress_ptr);
  boolean (*decode_mcu)(j_decompress_ptr, JBLOCKROW*);
};

// Keeps the memory of libjpeg's tables for reuse.
template <class Table, size_t N>
class SpareTables {
 public:
  Table* acquire() noexcept {
    for (Table*& table : tables_) {
      if (table) return std::exchange(table, nullptr);
    }
    return nullptr;
  }

  // Ignores a table that is already here, and one for which there is no room: libjpeg may have allocated tables without
  // acquire(). Its own memory pool frees those.
  void release(Table* table) noexcept {
    if (!table || std::find(tables_.begin(), tables_.end(), table) != tables_.end()) return;
    const auto empty = std::find(tables_.begin(), tables_.end(), nullptr);
    if (empty != tables_.end()) *empty = table;
  }

  auto count() const noexcept {
    return std::count_if(tables_.begin(), tables_.end(), [](auto* table) { return table; });
  }

 private:
  std::array<Table*, N> tables_{};
};

// Note [setjmp]: libjpeg can report an error only by longjmp, which skips destructors. So every call into libjpeg is in
// one of the functions below, whose local variables are plain values. Their callers are ordinary C++.
struct JpegHandle {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_source_mgr source{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump{};

  // Note [scan]: while HuffmanScan reads the scan, libjpeg's own state (bit buffer, position in the file, restart
  // count) remains as it was at the start of the scan. So only crop, skip_rows, read_rows and abort may follow start().
  HuffmanScan scan;
  bool scan_is_ours = false;
  HuffmanReader huffman_reader = HuffmanReader::libjpeg;  // or `ours`, for files that it can read
  bool jump_restarts = false;                             // see DecodeOptions

  bool keep_truncated = false;
  bool ended = false;       // libjpeg asked for more bytes than the file has
  uint64_t max_pixels = 0;  // limits the work for a progressive file, see check_scans()
  Reason reason = Reason::corrupt;
  char message[JMSG_LENGTH_MAX]{};

  // Note [tables]: libjpeg keeps quantisation and Huffman tables from file to file, so it would decode a file without
  // tables with those of the previous file. Therefore abort() removes them, and alloc_small reuses their memory.
  void* (*libjpeg_alloc_small)(j_common_ptr, int, size_t) = nullptr;
  SpareTables<JQUANT_TBL, NUM_QUANT_TBLS> spare_quantisation;
  SpareTables<JHUFF_TBL, size_t{2} * NUM_HUFF_TBLS> spare_huffman;

  // Error if libjpeg refuses to start, because its version differs from that of the headers (see jpeg_library.h).
  JpegHandle();
  ~JpegHandle();
  JpegHandle(const JpegHandle&) = delete;
  JpegHandle& operator=(const JpegHandle&) = delete;

  bool read_header(const uint8_t* data, size_t size);
  bool compute_output_size();
  bool start();
  bool crop(JDIMENSION* x, JDIMENSION* width);
  bool skip_rows(JDIMENSION rows);
  bool read_rows(JSAMPROW* rows, JDIMENSION count);
  bool read_coefficients(jvirt_barray_ptr** coefficients);  // of the whole file, instead of start()
  void abort();                                             // prepares for the next file

  // After start() or read_coefficients(): libjpeg smooths an incomplete progressive file across blocks.
  bool is_smoothed() const noexcept;

  const uint8_t* position() const noexcept { return source.next_input_byte; }
};

}  // namespace lds
