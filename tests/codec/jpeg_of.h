// Encodes the JPEG files that the tests decode.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "codec/libjpeg.h"

using Bytes = std::vector<uint8_t>;

struct JpegOptions {
  bool progressive = false;
  int quality = 75;
  int across = 2, down = 2;  // horizontal and vertical chroma subsampling
  unsigned restart_interval = 0;
  bool optimize = false;    // Huffman tables that are optimal for this image
  bool gray = false;        // encodes only the red channel
  bool long_codes = false;  // every code has 16 bits
  bool arithmetic = false;
  bool separate_scans = false;  // one scan a component
  bool rgb = false;             // red, green and blue as they are
};

// A scan of all coefficients of each of three components.
inline const jpeg_scan_info* scans_of_components() {
  static const jpeg_scan_info scans[3] = {
      {1, {0, 0, 0, 0}, 0, 63, 0, 0}, {1, {1, 0, 0, 0}, 0, 63, 0, 0}, {1, {2, 0, 0, 0}, 0, 63, 0, 0}};
  return scans;
}

inline void make_codes_long(jpeg_compress_struct& info) {
  for (JHUFF_TBL* table :
       {info.dc_huff_tbl_ptrs[0], info.dc_huff_tbl_ptrs[1], info.ac_huff_tbl_ptrs[0], info.ac_huff_tbl_ptrs[1]}) {
    int symbols = 0;
    for (int length = 1; length <= 16; ++length) symbols += table->bits[length];
    std::fill_n(table->bits, 16, 0);
    table->bits[16] = static_cast<UINT8>(symbols);
  }
}

// Encodes interleaved RGB pixels.
inline Bytes jpeg_of(const Bytes& pixels, int width, int height, const JpegOptions& options = {}) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &out, &size);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = options.gray ? 1 : 3;
  info.in_color_space = options.gray ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  if (options.rgb) jpeg_set_colorspace(&info, JCS_RGB);
  jpeg_set_quality(&info, options.quality, TRUE);
  if (!options.gray) {
    info.comp_info[0].h_samp_factor = options.across;
    info.comp_info[0].v_samp_factor = options.down;
  }
  info.restart_interval = options.restart_interval;
  info.optimize_coding = options.optimize ? TRUE : FALSE;
  if (options.long_codes) make_codes_long(info);
  if (options.progressive) jpeg_simple_progression(&info);
  info.arith_code = options.arithmetic ? TRUE : FALSE;
  if (options.separate_scans && !options.gray) {
    info.scan_info = scans_of_components();
    info.num_scans = 3;
  }
  jpeg_start_compress(&info, TRUE);
  Bytes line(static_cast<size_t>(width));
  for (int y = 0; y < height; ++y) {
    JSAMPROW row = const_cast<uint8_t*>(&pixels[static_cast<size_t>(y) * width * 3]);
    if (options.gray) {
      for (int x = 0; x < width; ++x) line[x] = row[x * 3];
      row = line.data();
    }
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  Bytes bytes(out, out + size);
  jpeg_destroy_compress(&info);
  std::free(out);
  return bytes;
}
