// Helpers that the fuzz targets share: options from the last bytes of the input, and a sink that reads every pixel.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>

#include "codec/decode.h"
#include "common/error.h"

namespace fuzz {

// Takes choices from the end of the input, where they do not affect the structure of the file.
struct Choices {
  const uint8_t* data;
  size_t size;
  int next() { return size > 0 ? data[--size] : 0; }
  int below(int n) { return next() * 256 % n + next() % n; }
};

inline lds::DecodeOptions options(Choices& choices) {
  const int flags = choices.next();
  lds::DecodeOptions options;
  options.channels = flags & 1 ? 1 : 3;
  options.exif_orientation = flags & 2;
  options.keep_truncated = flags & 4;
  options.max_pixels = 1 << 18;
  return options;
}

// A box inside width x height. Every other one is the whole image.
inline lds::IntBox box(Choices& choices, int width, int height) {
  if (choices.next() & 1) return {0, 0, width, height};
  const int x0 = std::min(choices.below(width), width - 1), y0 = std::min(choices.below(height), height - 1);
  const int x1 = x0 + 1 + std::min(choices.below(width - x0), width - x0 - 1);
  const int y1 = y0 + 1 + std::min(choices.below(height - y0), height - y0 - 1);
  return {x0, y0, x1, y1};
}

// Reads every pixel, and checks the number of rows.
class HashSink : public lds::RowSink {
 public:
  HashSink(const lds::IntBox& box, int channels) : bytes_(box.width() * channels), rows_(box.height()) {}
  void push(const uint8_t* row) override {
    for (int i = 0; i < bytes_; ++i) hash_ = (hash_ ^ row[i]) * 0x100000001b3U;  // FNV-1a
    if (--rows_ < 0) std::abort();                                               // the box has fewer rows
  }
  uint64_t finish() const {
    if (rows_ != 0) std::abort();
    return hash_;
  }

 private:
  int bytes_, rows_;
  uint64_t hash_ = 0xcbf29ce484222325U;
};

// The result of an input: the hash of its pixels, or the error.
struct Outcome {
  uint64_t pixels = 0;
  std::string error;
  bool operator==(const Outcome&) const = default;
};

// Decodes with one codec, which is reused from input to input like in a packing thread. `adjust` may change the
// options.
template <class Codec>
Outcome decode(const uint8_t* data, size_t size, bool with_draft = false,
               void (*adjust)(lds::DecodeOptions&) = nullptr) {
  static Codec codec;
  Choices choices{data, size};
  try {
    lds::DecodeOptions given = options(choices);
    if (adjust) adjust(given);
    codec.open(data, choices.size, given);
    if constexpr (requires { codec.set_draft(1, 1); }) {
      if (with_draft && choices.next() & 1) codec.set_draft(1 + choices.next(), 1 + choices.next());
    }
    const lds::IntBox part = box(choices, codec.width(), codec.height());
    HashSink sink(part, given.channels);
    codec.read(part, sink);
    return {sink.finish(), ""};
  } catch (const lds::Error& error) {
    if (error.reason() == lds::Reason::internal || error.reason() == lds::Reason::value) std::abort();
    return {0, error.what()};
  }
}

}  // namespace fuzz
