// libjpeg behind functions that never throw and never longjmp out: each gives false when libjpeg reported an error.
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

// The beginning of libjpeg's internal jpeg_entropy_decoder, the same since version 6b; jpeg_library.cpp compares.
struct EntropyDecoder {
  void (*start_pass)(j_decompress_ptr);
  boolean (*decode_mcu)(j_decompress_ptr, JBLOCKROW*);
};

// The memory of tables, to lend out again.
template <class Table, size_t N>
class SpareTables {
 public:
  Table* lend() noexcept {
    for (Table*& table : tables_) {
      if (table) return std::exchange(table, nullptr);
    }
    return nullptr;
  }

  // What libjpeg has from elsewhere than lend() could come twice, or be one too many. It is left to libjpeg's pool.
  void take_back(Table* back) noexcept {
    if (!back || std::find(tables_.begin(), tables_.end(), back) != tables_.end()) return;
    const auto empty = std::find(tables_.begin(), tables_.end(), nullptr);
    if (empty != tables_.end()) *empty = back;
  }

  auto count() const noexcept {
    return std::count_if(tables_.begin(), tables_.end(), [](auto* table) { return table; });
  }

 private:
  std::array<Table*, N> tables_{};
};

// Note [setjmp]: libjpeg leaves its errors by longjmp, which skips destructors. So every call into libjpeg is in
// one of the functions below, which hold plain values only; whoever calls them is ordinary C++.
struct JpegHandle {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_source_mgr source{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump{};

  // Note [scan]: where ours reads the scan, libjpeg's own state (its bits, its place in the file, the restarts) stays
  // as the scan began. Nothing but crop, skip_rows, read_rows and abort may follow start().
  HuffmanScan scan;
  bool scan_is_ours = false;
  HuffmanReader huffman_reader = HuffmanReader::libjpeg;  // or ours, where the file allows it

  bool keep_truncated = false;
  bool ended = false;       // libjpeg asked for bytes after the last one
  uint64_t max_pixels = 0;  // bounds the work of a progressive file, see jpeg_check_scans
  Reason reason = Reason::corrupt;
  char message[JMSG_LENGTH_MAX]{};

  // Note [tables]: quantisation and Huffman tables are permanent in libjpeg, so that a file without tables would be
  // decoded with those of the file before. Each file starts without any; their memory is lent out again here.
  void* (*alloc_small)(j_common_ptr, int, size_t) = nullptr;
  SpareTables<JQUANT_TBL, NUM_QUANT_TBLS> spare_quantisation;
  SpareTables<JHUFF_TBL, size_t{2} * NUM_HUFF_TBLS> spare_huffman;

  JpegHandle();  // throws what libjpeg says when it refuses: it may be another than the headers' (jpeg_library.h)
  ~JpegHandle();
  JpegHandle(const JpegHandle&) = delete;
  JpegHandle& operator=(const JpegHandle&) = delete;

  bool read_header(const uint8_t* data, size_t size);
  bool compute_output_size();
  bool start();
  bool crop(JDIMENSION* x, JDIMENSION* width);
  bool skip_rows(JDIMENSION rows);
  bool read_rows(JSAMPROW* rows, JDIMENSION count);
  void abort();  // ready for the next file

  const uint8_t* position() const noexcept { return source.next_input_byte; }
};

}  // namespace lds
