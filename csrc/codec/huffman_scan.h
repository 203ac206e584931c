// Reads the scan of a sequential Huffman JPEG file in place of libjpeg's own reader: the same coefficients, sooner.
// Blocks outside of the crop are skipped, several symbols at a time.
#pragma once

#include "codec/huffman.h"

namespace lds {

// Holds plain values only: libjpeg may longjmp out of read_mcu.
class HuffmanScan {
 public:
  // After jpeg_start_decompress. False where libjpeg must read the file itself: progressive, arithmetic, lossless, or
  // in several scans.
  bool begin(j_decompress_ptr info);

  // After jpeg_crop_scanline, with what it returned: MCUs of other columns are skipped from now on.
  void limit_columns(j_decompress_ptr info, JDIMENSION x, JDIMENSION width);

  // libjpeg's decode_mcu: reads the next MCU into blocks of zeros; nullptr skips it. Errors in the data become
  // libjpeg's warnings.
  void read_mcu(j_decompress_ptr info, JBLOCKROW* mcu);

 private:
  struct Block {
    const HuffmanTable* dc;
    const HuffmanTable* ac;
    int component;
    bool ac_wanted;
  };
  void restart(j_decompress_ptr info);
  [[noreturn]] void data_ended(j_decompress_ptr info) const;

  HuffmanTable dc_tables_[NUM_HUFF_TBLS], ac_tables_[NUM_HUFF_TBLS];
  Block blocks_[D_MAX_BLOCKS_IN_MCU];
  int block_count_ = 0;
  uint32_t last_dc_[MAX_COMPS_IN_SCAN];  // may wrap around, as in libjpeg
  BitReader reader_;
  JDIMENSION columns_ = 0, column_ = 0, first_ = 0, last_ = 0;  // of MCUs
  unsigned restarts_to_go_ = 0;
  int next_restart_ = 0;
};

}  // namespace lds
