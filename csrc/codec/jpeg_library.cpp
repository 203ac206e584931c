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

// Debian installs libjpeg's internal header, and tools/test-libjpeg has libjpeg's sources.
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

// The program or library whose code is at an address; all null where no code is.
struct CodeAt {
  uintptr_t address;
  const void* owner = nullptr;  // the same for all code of one file
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

// A function that jpeg_std_error names is surely libjpeg's; one that we name may be a preloaded library's.
CodeAt libjpeg_code() {
  jpeg_error_mgr errors{};
  jpeg_std_error(&errors);
  return code_at(errors.format_message);
}

// Where the words that we take for functions are none of libjpeg's, its structure is another: they are left alone.
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

struct Sample {
  const uint8_t* data;
  size_t size;
};
constexpr Sample kSamples[] = {{kPlainSample, sizeof kPlainSample}, {kRestartSample, sizeof kRestartSample}};

std::vector<uint8_t> decoded(JpegDecoder& decoder, const Sample& sample, const IntBox& box, HuffmanReader reader) {
  struct Rows : RowSink {
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
  // with the box, MCUs are passed over at the top, at the left and at the right
  constexpr IntBox kBoxes[] = {{0, 0, kSampleWidth, kSampleHeight}, {36, 37, 60, 50}};
  try {
    if (!knows_entropy_decoder()) return false;
    JpegDecoder decoder;
    for (const Sample& sample : kSamples) {
      for (const IntBox& box : kBoxes) {
        if (decoded(decoder, sample, box, HuffmanReader::ours) !=
            decoded(decoder, sample, box, HuffmanReader::libjpeg)) {
          return false;
        }
      }
    }
    return true;
  } catch (const Error& error) {
    if (error.reason() == Reason::too_large) throw std::bad_alloc();  // the samples are small: libjpeg had no memory
    return false;
  }
}

bool huffman_reader_agrees() {
  // No lock, which a forked child could find held for ever: threads that come at once each find out, and the same.
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
                ". Headers and library must be of one libjpeg-turbo: install both (Debian and Ubuntu: apt-get install "
                "--reinstall libjpeg-dev), and build largeds_native again.",
            ""};
  }
  if (huffman_reader_agrees()) return {};
  return {"",
          "largeds_native's reader of Huffman codes does not agree with " + library + " (the headers were those of " +
              headers + "), so libjpeg reads them itself: pixels are right, and decoding a JPEG takes about a fifth " +
              "longer. Install libjpeg-turbo 2.1 to 3.2 (Debian and Ubuntu: apt-get install libjpeg-dev) and build " +
              "largeds_native again, or install a wheel of it, which brings its own."};
}

}  // namespace lds
