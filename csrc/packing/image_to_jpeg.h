// Converts an image file in memory to a JPEG row: keeps the file, copies its coefficients, or decodes, shrinks and
// encodes it.
#pragma once

#include <atomic>
#include <optional>
#include <vector>

#include "codec/decode.h"
#include "codec/jpeg_encode.h"
#include "codec/jpeg_structure.h"
#include "codec/jpeg_transcode.h"
#include "packing/image_to_row.h"
#include "resize/resize.h"

namespace lds {

// How a row was kept. The numbers are those of KEPT in store/format/sample_log.py.
enum class Kept : uint8_t { verbatim, transcoded, shrunk, encoded };

struct JpegSpec {
  int quality = 95;       // of what is encoded
  bool restarts = false;  // every row gets restart markers: files that have none are transcoded
};

constexpr int kNotMeasured = -1;

struct JpegRow {
  Kept kept = Kept::verbatim;
  int source_width = 0, source_height = 0;  // after orientation
  int width = 0, height = 0;                // of the row, as shown
  int orientation = 1;                      // EXIF's number, by which the stored pixels are turned for showing
  int psnr = kNotMeasured;                  // to the pixels that were encoded, in thousandths of a decibel
};

// The row of a source of this size, which is shrunk where its shorter side is longer than resize_h.
JpegRow sized_row(const RowSpec& spec, int width, int height);

// Starts the resizer for a source of this size, which is shrunk where its shorter side is longer than resize_h. The
// result goes to `pixels`, interleaved.
JpegRow begin_row(const RowSpec& spec, int width, int height, StreamingResizer& resizer, std::vector<uint8_t>& pixels);

// Not thread-safe: use one per thread.
class ImageToJpeg {
 public:
  // Of `row`, resize_h (the longest shorter side, 0 for any), filter, antialias and decode count. Error(Reason::value)
  // for an invalid spec.
  ImageToJpeg(const RowSpec& row, const JpegSpec& spec);

  // Appends the row to `out`. `measure`: compare what is encoded with the result. After an Error, what was appended is
  // unspecified.
  JpegRow convert(const uint8_t* data, size_t size, bool measure, std::vector<uint8_t>& out);

  // Like convert(), for interleaved pixels of row.decode.channels channels.
  JpegRow convert_pixels(const ConstImageView& pixels, bool measure, std::vector<uint8_t>& out);

  // When `flag` becomes true, convert() stops within the image with Error(Reason::cancelled).
  void set_stop_flag(const std::atomic<bool>* flag) noexcept { stop_ = flag; }

 private:
  std::optional<JpegRow> keep(const uint8_t* data, size_t size, std::vector<uint8_t>& out);
  std::optional<JpegRow> transcode(const uint8_t* data, size_t size, bool progressive, JpegRow row,
                                   std::vector<uint8_t>& out);
  void check_data(const uint8_t* data, size_t size);
  void encode(JpegRow& row, bool measure, std::vector<uint8_t>& out);
  int psnr(std::string_view file, const ConstImageView& pixels);

  const RowSpec row_;
  const JpegSpec spec_;
  Decoder decoder_;
  StreamingResizer resizer_;
  JpegTranscoder transcoder_;
  JpegEncoder encoder_;
  std::vector<uint8_t> pixels_;  // that are encoded
  const std::atomic<bool>* stop_ = nullptr;
};

}  // namespace lds
