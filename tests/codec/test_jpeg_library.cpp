// Tests what the core relies on in the libjpeg that it is linked to.
#include <doctest/doctest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "codec/jpeg_handle.h"
#include "codec/jpeg_library.h"
#include "codec/jpeg_samples.h"
#include "codec/versions.h"

namespace {

// Checks that a sample has 4:2:0 chroma subsampling and this restart interval, and that HuffmanScan can read it.
void check_sample(const uint8_t* data, size_t size, unsigned restart_interval) {
  lds::JpegHandle jpeg;
  REQUIRE(jpeg.read_header(data, size));
  CHECK(jpeg.info.image_width == lds::kSampleWidth);
  CHECK(jpeg.info.image_height == lds::kSampleHeight);
  CHECK(jpeg.info.comp_info[0].h_samp_factor == 2);
  CHECK(jpeg.info.comp_info[0].v_samp_factor == 2);
  CHECK(jpeg.info.restart_interval == restart_interval);
  jpeg.huffman_reader = lds::HuffmanReader::ours;
  REQUIRE(jpeg.start());
  CHECK(jpeg.scan_is_ours);
}

}  // namespace

TEST_CASE("HuffmanScan agrees with this libjpeg") {
  MESSAGE("headers of libjpeg-turbo " << lds::codec_versions()["libjpeg-turbo"] << ", ABI " << JPEG_LIB_VERSION);
  CHECK(lds::huffman_reader_agrees());
  const lds::JpegLibraryCheck found = lds::check_jpeg_library();
  CHECK(found.error.empty());
  CHECK(found.warning.empty());
}

TEST_CASE("several threads may run the check concurrently") {
  std::vector<std::thread> threads;
  std::vector<int> agrees(4, 0);
  for (int& one : agrees) threads.emplace_back([&one] { one = lds::huffman_reader_agrees(); });
  for (std::thread& thread : threads) thread.join();
  CHECK(agrees == std::vector<int>(4, 1));
}

TEST_CASE("the samples of the check have restart markers, and have none") {
  check_sample(lds::kPlainSample, sizeof lds::kPlainSample, 0);
  check_sample(lds::kRestartSample, sizeof lds::kRestartSample, 3);
}

TEST_CASE("files that libjpeg reads itself: of several scans, or with a scan of part of the coefficients") {
  const std::vector<uint8_t> sample(lds::kPlainSample, lds::kPlainSample + sizeof lds::kPlainSample);
  const std::vector<uint8_t> marker = {0xFF, 0xDA};
  const auto scan = std::search(sample.begin(), sample.end(), marker.begin(), marker.end()) - sample.begin();
  // a scan of the first component before that of all: 63 blocks of four bits, the codes of no difference and of the end
  std::vector<uint8_t> first = {0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0};
  first.resize(first.size() + 31);
  first.push_back(0x0F);
  std::vector<uint8_t> several = sample, part = sample;
  several.insert(several.begin() + scan, first.begin(), first.end());
  part[static_cast<size_t>(scan) + 11] = 3;  // from the fourth coefficient on
  for (const std::vector<uint8_t>& file : {several, part}) {
    lds::JpegHandle jpeg;
    jpeg.max_pixels = 1 << 20;
    REQUIRE(jpeg.read_header(file.data(), file.size()));
    jpeg.huffman_reader = lds::HuffmanReader::ours;
    REQUIRE(jpeg.start());
    CHECK_FALSE(jpeg.scan_is_ours);
  }
}

TEST_CASE("tables that libjpeg allocated elsewhere are not reused twice, and the number of spare tables is bounded") {
  lds::JpegHandle jpeg;
  for (int file = 0; file < 4; ++file) {
    for (JHUFF_TBL*& table : jpeg.info.dc_huff_tbl_ptrs)
      table = jpeg_alloc_huff_table(reinterpret_cast<j_common_ptr>(&jpeg.info));
    for (int i = 0; i < NUM_HUFF_TBLS; ++i) jpeg.info.ac_huff_tbl_ptrs[i] = jpeg.info.dc_huff_tbl_ptrs[i];
    jpeg.abort();
    CHECK(jpeg.spare_huffman.count() == NUM_HUFF_TBLS);
  }
  static JHUFF_TBL foreign[12];
  for (int file = 0; file < 3; ++file) {
    for (int i = 0; i < NUM_HUFF_TBLS; ++i) jpeg.info.dc_huff_tbl_ptrs[i] = &foreign[4 * file + i];
    jpeg.abort();
  }
  CHECK(jpeg.spare_huffman.count() == 2 * NUM_HUFF_TBLS);
}
