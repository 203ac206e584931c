// Reads the scan of a sequential Huffman JPEG file in place of libjpeg's decode_mcu: the same coefficients, but faster.
// Blocks outside of the crop are skipped, several symbols at a time; or, in a file with a restart marker after each row
// of MCUs, the rows above the crop and what is on its right are not read at all.
#pragma once

#include "codec/huffman.h"

namespace lds {

// Has trivially destructible members only, because libjpeg may longjmp out of read_mcu.
class HuffmanScan {
 public:
  // Call it after jpeg_start_decompress. False if libjpeg must read the file itself, because it is progressive,
  // arithmetic-coded, lossless, or has several scans. `jump`: pass what is not needed by restart markers where there is
  // one after each row of MCUs; damage there is not found then.
  bool begin(j_decompress_ptr info, bool jump);

  // Call it after jpeg_crop_scanline with the values that it returned. MCUs of other columns are skipped from then on.
  void limit_columns(j_decompress_ptr info, JDIMENSION x, JDIMENSION width);

  // The counterpart of libjpeg's decode_mcu: reads the next MCU into zeroed blocks, or skips it if `mcu` is nullptr.
  // Errors in the data are reported as libjpeg warnings.
  void read_mcu(j_decompress_ptr info, JBLOCKROW* mcu);

 private:
  struct Block {
    const HuffmanTable* dc;
    const HuffmanTable* ac;
    int component;
    bool ac_needed;  // false if the component is not needed, or only its DC coefficients are
  };
  void read_blocks(JBLOCKROW* mcu);
  void read_blocks_plain(JBLOCKROW* mcu);
#if defined(__x86_64__)
  void read_blocks_bmi2(JBLOCKROW* mcu);
#endif
  void restart(j_decompress_ptr info);
  // `marker`: that ends the data; 0 if the file ends.
  [[noreturn]] static void data_ended(j_decompress_ptr info, int marker);
  void begin_data(const uint8_t* data, const uint8_t* end);

  HuffmanTable dc_tables_[NUM_HUFF_TBLS], ac_tables_[NUM_HUFF_TBLS];
  Block blocks_[D_MAX_BLOCKS_IN_MCU];
  int block_count_ = 0;
  uint32_t last_dc_[MAX_COMPS_IN_SCAN];  // may wrap around, as in libjpeg
  EntropyData data_;
  const uint8_t* end_ = nullptr;  // of the file
  BitReader reader_;
  JDIMENSION columns_ = 0, column_ = 0, first_ = 0, last_ = 0;  // of MCUs
  unsigned restarts_to_go_ = 0;
  int next_restart_ = 0;
  bool jumps_ = false;
  void (HuffmanScan::*read_blocks_)(JBLOCKROW* mcu) = nullptr;
};

}  // namespace lds
