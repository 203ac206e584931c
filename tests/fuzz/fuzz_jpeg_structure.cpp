// JPEG files damaged segment by segment, so that most of them get past the header. HuffmanScan and libjpeg must agree
// on each: both fail, or both give the same pixels.
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "codec/jpeg_handle.h"
#include "fuzz_common.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint64_t kMaxPixels = 1 << 18;
constexpr size_t kChoices = 8;  // bytes at the end of the input, behind the file

// libjpeg with a few bytes of input at a time, so that it never uses its fast loop. The fast loop decodes an invalid
// code as a zero, and restarts an MCU without clearing it after fill bytes.
class SlowJpeg : public lds::JpegHandle {
 public:
  SlowJpeg() : end_of_file_(source.fill_input_buffer) {
    source.fill_input_buffer = &fill;
    source.skip_input_data = &skip;
  }
  bool read_header_slowly(const uint8_t* data, size_t size) {
    const size_t first = std::min(size, kPiece);
    next_ = data + first;
    end_ = data + size;
    return read_header(data, first);
  }

 private:
  static constexpr size_t kPiece = 61;
  static SlowJpeg* self(j_decompress_ptr info) {
    return static_cast<SlowJpeg*>(static_cast<lds::JpegHandle*>(info->client_data));
  }
  static boolean fill(j_decompress_ptr info) {
    SlowJpeg* jpeg = self(info);
    if (jpeg->next_ == jpeg->end_) return jpeg->end_of_file_(info);
    info->src->next_input_byte = jpeg->next_;
    info->src->bytes_in_buffer = std::min(static_cast<size_t>(jpeg->end_ - jpeg->next_), kPiece);
    jpeg->next_ += info->src->bytes_in_buffer;
    return TRUE;
  }
  static void skip(j_decompress_ptr info, long count) {
    while (count > static_cast<long>(info->src->bytes_in_buffer)) {
      count -= static_cast<long>(info->src->bytes_in_buffer);
      fill(info);
    }
    if (count <= 0) return;
    info->src->next_input_byte += count;
    info->src->bytes_in_buffer -= static_cast<size_t>(count);
  }

  boolean (*end_of_file_)(j_decompress_ptr);
  const uint8_t* next_ = nullptr;
  const uint8_t* end_ = nullptr;
};

// The rows from the drawn one on, of the drawn columns; false when the file is refused.
bool decode(lds::JpegHandle& jpeg, fuzz::Choices choices, Bytes& pixels) {
  pixels.clear();
  if (uint64_t{jpeg.info.image_width} * jpeg.info.image_height > kMaxPixels) return false;
  if (!jpeg.compute_output_size() || !jpeg.start()) return false;
  const bool whole = choices.next() % 2 == 0;
  const auto width = static_cast<int>(jpeg.info.output_width), height = static_cast<int>(jpeg.info.output_height);
  if (!whole && !jpeg.info.progressive_mode) {
    auto x = static_cast<JDIMENSION>(choices.next() % width);
    auto columns = static_cast<JDIMENSION>(1 + choices.next() % (width - static_cast<int>(x)));
    if (!jpeg.crop(&x, &columns)) return false;
    const int skipped = choices.next() % height;
    if (skipped > 0 && !jpeg.skip_rows(static_cast<JDIMENSION>(skipped))) return false;
  }
  const size_t row_bytes = size_t{jpeg.info.output_width} * static_cast<size_t>(jpeg.info.output_components);
  Bytes row(row_bytes + 64);
  while (jpeg.info.output_scanline < jpeg.info.output_height) {
    JSAMPROW rows[1] = {row.data()};
    if (!jpeg.read_rows(rows, 1)) return false;
    pixels.insert(pixels.end(), row.begin(), row.begin() + static_cast<ptrdiff_t>(row_bytes));
  }
  return true;
}

// ---- the mutator ----

// A marker with its segment, and what follows it up to the next one: the entropy-coded data of a scan.
struct Segment {
  uint8_t marker = 0;
  bool has_length = false;
  Bytes body, data;
};

struct File {
  std::vector<Segment> segments;
  Bytes rest;  // that is no segment
};

bool is_restart(uint8_t marker) { return marker >= 0xD0 && marker <= 0xD7; }

File parse(const uint8_t* data, size_t size) {
  File file;
  size_t at = 0;
  while (size - at >= 2 && data[at] == 0xFF && data[at + 1] != 0 && data[at + 1] != 0xFF) {
    Segment segment;
    segment.marker = data[at + 1];
    segment.has_length = !(segment.marker >= 0xD0 && segment.marker <= 0xD9) && segment.marker != 1;
    at += 2;
    if (segment.has_length) {
      if (size - at < 2) break;
      const size_t length = std::min(std::max<size_t>(size_t{data[at]} << 8 | data[at + 1], 2), size - at);
      segment.body.assign(data + at + 2, data + at + length);
      at += length;
    }
    const size_t begin = at;
    if (segment.marker == 0xDA) {
      while (at < size && !(size - at >= 2 && data[at] == 0xFF && data[at + 1] != 0 && data[at + 1] != 0xFF &&
                            !is_restart(data[at + 1]))) {
        ++at;
      }
    }
    segment.data.assign(data + begin, data + at);
    file.segments.push_back(std::move(segment));
  }
  file.rest.assign(data + at, data + size);
  return file;
}

// With right lengths.
Bytes written(const File& file) {
  Bytes out;
  for (const Segment& segment : file.segments) {
    out.push_back(0xFF);
    out.push_back(segment.marker);
    if (segment.has_length) {
      const size_t length = std::min<size_t>(segment.body.size(), 65533) + 2;
      out.push_back(static_cast<uint8_t>(length >> 8));
      out.push_back(static_cast<uint8_t>(length));
      out.insert(out.end(), segment.body.begin(), segment.body.begin() + static_cast<ptrdiff_t>(length - 2));
    }
    out.insert(out.end(), segment.data.begin(), segment.data.end());
  }
  out.insert(out.end(), file.rest.begin(), file.rest.end());
  return out;
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  void change(File& file, size_t max_size) {
    switch (below(9)) {
      case 0: return change_bytes(any(file).body, 600);
      case 1: return change_bytes(scan(file).data, max_size / 2);
      case 2: return cut(any(file).body);  // a table that ends early
      case 3: return restart_every(file, 1 + below(40));
      case 4: return insert_marker(scan(file).data, static_cast<uint8_t>(0xD0 + below(8)));
      case 5: return number_restarts(scan(file).data);
      case 6: return insert_marker(scan(file).data, 0xFF);  // a fill byte
      case 7: return repeat(scan(file).data, max_size / 2);
      default: return move_segment(file);
    }
  }
  size_t below(size_t n) { return n == 0 ? 0 : random_() % n; }

 private:
  Segment& any(File& file) { return file.segments[below(file.segments.size())]; }
  Segment& scan(File& file) {
    for (Segment& segment : file.segments) {
      if (segment.marker == 0xDA && below(3) > 0) return segment;
    }
    return any(file);
  }
  void change_bytes(Bytes& bytes, size_t max_size) {
    const size_t size = std::min(bytes.size(), max_size);
    bytes.resize(std::max(max_size, size + 1));
    bytes.resize(LLVMFuzzerMutate(bytes.data(), size, bytes.size()));
  }
  void cut(Bytes& bytes) { bytes.resize(below(bytes.size() + 1)); }
  void restart_every(File& file, size_t blocks) {
    Segment interval;
    interval.marker = 0xDD;
    interval.has_length = true;
    interval.body = {0, static_cast<uint8_t>(blocks)};
    for (Segment& segment : file.segments) {
      if (segment.marker == 0xDD) segment = interval;
    }
    file.segments.insert(file.segments.begin() + 1, interval);
  }
  void insert_marker(Bytes& data, uint8_t code) {
    const uint8_t marker[2] = {0xFF, code};
    data.insert(data.begin() + static_cast<ptrdiff_t>(below(data.size() + 1)), marker, marker + 2);
  }
  static void number_restarts(Bytes& data) {
    int number = 0;
    for (size_t i = 0; i + 1 < data.size(); ++i) {
      if (data[i] == 0xFF && is_restart(data[i + 1])) data[i + 1] = static_cast<uint8_t>(0xD0 + number++ % 8);
    }
  }
  void repeat(Bytes& data, size_t max_size) {
    const size_t begin = below(data.size()), count = std::min(data.size() - begin, max_size);
    const Bytes part(data.begin() + static_cast<ptrdiff_t>(begin),
                     data.begin() + static_cast<ptrdiff_t>(begin + count));
    for (size_t times = 1 + below(8); times > 0 && data.size() + count <= max_size; --times) {
      data.insert(data.begin() + static_cast<ptrdiff_t>(begin), part.begin(), part.end());
    }
  }
  // Tables behind the scan, twice, or not at all.
  void move_segment(File& file) {
    const size_t from = below(file.segments.size());
    const Segment segment = file.segments[from];
    if (below(2) == 0) file.segments.erase(file.segments.begin() + static_cast<ptrdiff_t>(from));
    if (below(3) > 0) {
      const size_t to = below(file.segments.size() + 1);
      file.segments.insert(file.segments.begin() + static_cast<ptrdiff_t>(to), segment);
    }
  }

  std::minstd_rand random_;
};

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  Mutator mutator(seed);
  if (size <= kChoices || mutator.below(16) == 0) return LLVMFuzzerMutate(data, size, max_size);
  uint8_t choices[kChoices];
  std::memcpy(choices, data + size - kChoices, kChoices);
  if (mutator.below(4) == 0) choices[mutator.below(kChoices)] = static_cast<uint8_t>(mutator.below(256));
  File file = parse(data, size - kChoices);
  if (file.segments.empty()) return LLVMFuzzerMutate(data, size, max_size);
  for (size_t times = 1 + mutator.below(4); times > 0 && !file.segments.empty(); --times)
    mutator.change(file, max_size);
  Bytes out = written(file);
  out.resize(std::min(out.size(), max_size - kChoices));
  std::copy(out.begin(), out.end(), data);  // it may be empty
  std::memcpy(data + out.size(), choices, kChoices);
  return out.size() + kChoices;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static lds::JpegHandle ours;
  static SlowJpeg libjpegs;
  const fuzz::Choices choices{data, size};
  size -= std::min(size, kChoices);
  if (size == 0) return 0;
  // A file without its end is refused before it is decoded. Here it gets one: libjpeg reads ahead, and would miss bytes
  // behind the last pixel that nobody needs.
  Bytes file(data, data + size);
  file.insert(file.end(), {0xFF, 0xD9});
  Bytes pixels, expected;
  ours.abort();
  ours.huffman_reader = lds::HuffmanReader::ours;
  ours.max_pixels = libjpegs.max_pixels = kMaxPixels;
  ours.scan_is_ours = true;  // until `start` finds that it is not
  const bool decoded = ours.read_header(file.data(), file.size()) && decode(ours, choices, pixels);
  // libjpeg read it, perhaps by its fast loop: a file of several scans, or with a scan of part of the coefficients
  if (!ours.scan_is_ours) return 0;
  libjpegs.abort();
  const bool decodable = libjpegs.read_header_slowly(file.data(), file.size()) && decode(libjpegs, choices, expected);
  if (decoded == decodable && (!decoded || pixels == expected)) return 0;
  std::fprintf(stderr, "ours: %s\nlibjpeg's: %s\n", decoded ? "pixels" : ours.message,
               decodable ? "pixels" : libjpegs.message);
  std::abort();
}
