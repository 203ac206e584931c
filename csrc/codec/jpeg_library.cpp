#include "codec/jpeg_library.h"

#include <elf.h>
#include <link.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <vector>

#include "codec/jpeg.h"
#include "codec/jpeg_handle.h"
#include "codec/jpeg_samples.h"
#include "codec/versions.h"
#include "common/error.h"

// Debian installs libjpeg's internal header, and tools/test-libjpeg builds with libjpeg's sources: compare
// EntropyDecoder with the real struct.
#if __has_include(<jpegint.h>)
#include <jpegint.h>

namespace lds {
static_assert(offsetof(EntropyDecoder, start_pass) == offsetof(jpeg_entropy_decoder, start_pass));
static_assert(offsetof(EntropyDecoder, decode_mcu) == offsetof(jpeg_entropy_decoder, decode_mcu));
static_assert(std::is_same_v<decltype(EntropyDecoder::start_pass), decltype(jpeg_entropy_decoder::start_pass)>);
static_assert(std::is_same_v<decltype(EntropyDecoder::decode_mcu), decltype(jpeg_entropy_decoder::decode_mcu)>);
}  // namespace lds
#endif

namespace lds {
namespace {

// The program or library whose code is at an address; null if the address is not in executable memory.
struct CodeAt {
  uintptr_t address;
  const void* owner = nullptr;  // identifies the file
  const char* path = nullptr;
};

int find_owner(dl_phdr_info* file, size_t /*size*/, void* found) {
  auto* code = static_cast<CodeAt*>(found);
  for (int i = 0; i < file->dlpi_phnum; ++i) {
    const auto& segment = file->dlpi_phdr[i];
    const bool executable = segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0;
    if (!executable || code->address - (file->dlpi_addr + segment.p_vaddr) >= segment.p_memsz) continue;
    code->owner = file->dlpi_phdr;
    code->path = file->dlpi_name;
    return 1;
  }
  return 0;
}

template <class Function>
CodeAt code_at(Function* function) {
  CodeAt code{reinterpret_cast<uintptr_t>(function)};
  dl_iterate_phdr(&find_owner, &code);
  return code;
}

// Uses a function that jpeg_std_error returns: one that we name ourselves could belong to a preloaded library.
CodeAt libjpeg_code() {
  jpeg_error_mgr errors{};
  jpeg_std_error(&errors);
  return code_at(errors.format_message);
}

// If the first two words of libjpeg's struct are not addresses of libjpeg functions, the struct has another layout, and
// must not be modified.
bool knows_entropy_decoder() {
  JpegHandle jpeg;
  jpeg.max_pixels = uint64_t{kSampleWidth} * kSampleHeight;
  if (!jpeg.read_header(kPlainSample, sizeof kPlainSample) || !jpeg.start()) {
    throw Error(jpeg.reason, jpeg.message);
  }
  EntropyDecoder words{};
  std::memcpy(&words, jpeg.info.entropy, sizeof words);
  const void* libjpeg = libjpeg_code().owner;
  return libjpeg && code_at(words.start_pass).owner == libjpeg && code_at(words.decode_mcu).owner == libjpeg;
}

struct SampleFile {
  const uint8_t* data;
  size_t size;
};
constexpr SampleFile kSampleFiles[] = {{kPlainSample, sizeof kPlainSample}, {kRestartSample, sizeof kRestartSample}};

std::vector<uint8_t> decoded(JpegDecoder& decoder, const SampleFile& sample, const IntBox& box, HuffmanReader reader) {
  struct Collector : RowSink {
    void push(const uint8_t* row) override { pixels.insert(pixels.end(), row, row + row_bytes); }
    size_t row_bytes = 0;
    std::vector<uint8_t> pixels;
  } rows;
  rows.row_bytes = static_cast<size_t>(box.width()) * 3;
  DecodeOptions options;
  options.huffman_reader = reader;
  decoder.open(sample.data, sample.size, options);
  decoder.read(box, rows);
  return rows.pixels;
}

}  // namespace

bool compare_huffman_readers() {
  // the second box skips MCUs at the top, on the left and on the right
  constexpr IntBox kBoxes[] = {{0, 0, kSampleWidth, kSampleHeight}, {36, 37, 60, 50}};
  try {
    if (!knows_entropy_decoder()) return false;
    JpegDecoder decoder;
    for (const SampleFile& sample : kSampleFiles) {
      for (const IntBox& box : kBoxes) {
        if (decoded(decoder, sample, box, HuffmanReader::ours) !=
            decoded(decoder, sample, box, HuffmanReader::libjpeg)) {
          return false;
        }
      }
    }
    return true;
  } catch (const Error& error) {
    if (error.reason() == Reason::too_large)
      throw std::bad_alloc();  // the samples are small, so libjpeg ran out of memory
    return false;
  }
}

bool huffman_reader_agrees() {
  // Without a lock, which could stay locked in a forked child. Concurrent first calls all run the check, with the same
  // result.
  static std::atomic<int> known{-1};
  int agrees = known.load(std::memory_order_relaxed);
  if (agrees < 0) {
    agrees = compare_huffman_readers() ? 1 : 0;
    known.store(agrees, std::memory_order_relaxed);
  }
  return agrees == 1;
}

JpegLibraryCheck check_jpeg_library() {
  const std::string headers = "libjpeg-turbo " + codec_versions()["libjpeg-turbo"];
  const char* path = libjpeg_code().path;
  const std::string library = path && *path ? path : "libjpeg";
  try {
    const JpegHandle jpeg;
  } catch (const Error& refusal) {
    return {"largeds_native was built with the headers of " + headers + ", ABI " + std::to_string(JPEG_LIB_VERSION) +
                ", and " + library + " refuses them: " + refusal.what() +
                ". Headers and library must have the same version: install both (Debian and Ubuntu: apt-get install "
                "--reinstall libjpeg-dev), and build largeds_native again.",
            ""};
  }
  if (huffman_reader_agrees()) return {};
  return {"",
          "largeds_native's Huffman decoder does not agree with " + library + " (built with the headers of " + headers +
              "), so libjpeg's own decoder is used: pixels are correct, but decoding a JPEG file takes about a fifth " +
              "longer. Install libjpeg-turbo 2.1 to 3.2 (Debian and Ubuntu: apt-get install libjpeg-dev) and build " +
              "largeds_native again, or install a wheel of largeds_native, which contains libjpeg-turbo."};
}

}  // namespace lds
