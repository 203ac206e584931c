#include "codec/huffman_scan.h"

#include <cstdlib>

#include "common/simd.h"

namespace lds {
namespace {

// In a file of fewer bytes, the time to build a table for skipping is more than it saves.
constexpr size_t kSkipBytes = size_t{12} << 10;

void warn(j_decompress_ptr info, int code) {
  info->err->msg_code = code;
  (*info->err->emit_message)(reinterpret_cast<j_common_ptr>(info), -1);
}

#if JPEG_LIB_VERSION >= 70
int block_size(const jpeg_component_info& component) { return component.DCT_h_scaled_size; }
int block_size(const jpeg_decompress_struct& info) { return info.min_DCT_h_scaled_size; }
#else
int block_size(const jpeg_component_info& component) { return component.DCT_scaled_size; }
int block_size(const jpeg_decompress_struct& info) { return info.min_DCT_scaled_size; }
#endif

}  // namespace

bool HuffmanScan::begin(j_decompress_ptr info, bool jump) {
  const bool sequential = info->Ss == 0 && info->Se == DCTSIZE2 - 1 && info->Ah == 0 && info->Al == 0;
  if (!sequential || info->progressive_mode || info->arith_code || info->data_precision != 8 ||
      info->comps_in_scan != info->num_components || info->input_scan_number != 1) {
    return false;
  }
  block_count_ = info->blocks_in_MCU;
  for (int i = 0; i < block_count_; ++i) {
    const int component = info->MCU_membership[i];
    const jpeg_component_info& details = *info->cur_comp_info[component];
    HuffmanTable &dc = dc_tables_[details.dc_tbl_no], &ac = ac_tables_[details.ac_tbl_no];
    dc.build(*info->dc_huff_tbl_ptrs[details.dc_tbl_no], true, false);
    ac.build(*info->ac_huff_tbl_ptrs[details.ac_tbl_no], false, info->src->bytes_in_buffer >= kSkipBytes);
    blocks_[i] = {&dc, &ac, component, details.component_needed && block_size(details) > 1};
  }
  begin_data(info->src->next_input_byte, info->src->next_input_byte + info->src->bytes_in_buffer);
  std::memset(last_dc_, 0, sizeof last_dc_);
  columns_ = info->MCUs_per_row;
  column_ = first_ = 0;
  last_ = columns_ - 1;
  restarts_to_go_ = info->restart_interval;
  next_restart_ = 0;
  jumps_ = jump && info->restart_interval == columns_;
  read_blocks_ = &HuffmanScan::read_blocks_plain;
#if defined(__x86_64__)
  if (includes_avx2(simd()) && __builtin_cpu_supports("bmi2")) read_blocks_ = &HuffmanScan::read_blocks_bmi2;
#endif
  return true;
}

void HuffmanScan::begin_data(const uint8_t* data, const uint8_t* end) {
  data_.begin(data, end);
  end_ = end;
  reader_ = {};
  reader_.data = &data_;
}

void HuffmanScan::limit_columns(j_decompress_ptr info, JDIMENSION x, JDIMENSION width) {
  const int blocks = info->num_components == 1 ? 1 : info->max_h_samp_factor;
  const auto column = static_cast<JDIMENSION>(blocks * block_size(*info));
  first_ = x / column;
  last_ = (x + width - 1) / column;
}

// Reads or skips the blocks of an MCU.
[[gnu::always_inline]] inline void HuffmanScan::read_blocks(JBLOCKROW* mcu) {
  BitReader in = reader_;
  in.refill();
  for (int i = 0; i < block_count_; ++i) {
    const Block& block = blocks_[i];
    uint32_t& dc = last_dc_[block.component];
    dc += static_cast<uint32_t>(block.dc->read_dc(in));
    if (mcu) (*mcu[i])[0] = static_cast<JCOEF>(dc);
    if (mcu && block.ac_needed) {
      block.ac->read_ac(in, *mcu[i]);
    } else {
      block.ac->skip_ac(in);
    }
  }
  reader_ = in;
}

void HuffmanScan::read_blocks_plain(JBLOCKROW* mcu) { read_blocks(mcu); }

#if defined(__x86_64__)
// With BMI2's shifts, which take their count from any register.
__attribute__((target("bmi2"))) void HuffmanScan::read_blocks_bmi2(JBLOCKROW* mcu) { read_blocks(mcu); }
#endif

void HuffmanScan::read_mcu(j_decompress_ptr info, JBLOCKROW* mcu) {
  if (info->restart_interval != 0) {
    if (restarts_to_go_ == 0) restart(info);
    --restarts_to_go_;
  }
  const JDIMENSION column = column_;
  if (++column_ == columns_) column_ = 0;
  const bool needed = mcu && column >= first_ && column <= last_;
  // what follows in this row is read after the next restart marker; libjpeg skips whole rows only
  if (jumps_ && !needed && (!mcu || column > last_)) return;
  (this->*read_blocks_)(needed ? mcu : nullptr);
  if (reader_.bad) warn(info, JWRN_HUFF_BAD_CODE);
  if (reader_.count < 0) data_ended(info, data_.marker());
}

// Like libjpeg, skips the remaining bits, and all bytes before the next marker.
void HuffmanScan::restart(j_decompress_ptr info) {
  const uint8_t* at = data_.position();
  while (end_ - at >= 2 && (at[0] != 0xFF || at[1] == 0xFF || at[1] == 0)) {
    const void* found = std::memchr(at + 1, 0xFF, static_cast<size_t>(end_ - at - 1));
    at = found ? static_cast<const uint8_t*>(found) : end_;
  }
  const int marker = end_ - at >= 2 ? at[1] : 0;
  if (marker == 0) data_ended(info, marker);
  if (marker != JPEG_RST0 + next_restart_) {
    info->err->msg_parm.i[0] = marker;
    info->err->msg_parm.i[1] = next_restart_;
    warn(info, JWRN_MUST_RESYNC);
  }
  begin_data(at + 2, end_);
  std::memset(last_dc_, 0, sizeof last_dc_);
  next_restart_ = (next_restart_ + 1) % 8;
  restarts_to_go_ = info->restart_interval;
}

// JpegHandle does not use HuffmanScan when it keeps truncated files, so neither call below returns (see fill_input and
// emit_message in jpeg_handle.cpp). If one did, no data would be left for the rest of the scan: fail in any case.
void HuffmanScan::data_ended(j_decompress_ptr info, int marker) {
  if (marker == 0) {
    static_cast<void>((*info->src->fill_input_buffer)(info));
  } else {
    info->unread_marker = marker;
    warn(info, JWRN_HIT_MARKER);
  }
  (*info->err->error_exit)(reinterpret_cast<j_common_ptr>(info));
  std::abort();  // error_exit never returns, but its type does not say so
}

}  // namespace lds
