// Binds the image decoders, and checks libjpeg at import.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "bind/bind.h"
#include "codec/decode.h"
#include "codec/jpeg_library.h"
#include "codec/versions.h"
#include "common/error.h"
#include "common/thread_pool.h"

namespace py = pybind11;

namespace lds {
namespace {

using Pixels = py::array_t<uint8_t, py::array::c_style>;

// Writes decoded rows directly into an array.
class ArraySink : public RowSink {
 public:
  ArraySink(uint8_t* out, size_t row_bytes) : next_(out), row_bytes_(row_bytes) {}
  void push(const uint8_t* row) override {
    std::copy(row, row + row_bytes_, next_);
    next_ += row_bytes_;
  }

 private:
  uint8_t* next_;
  size_t row_bytes_;
};

// `part` is the box (x0, y0, x1, y1) for Decoder::read(), `draft` the size (min_width, min_height) for set_draft().
Pixels decode_image(const py::bytes& data, int channels, bool exif_orientation, bool keep_truncated,
                    uint64_t max_pixels, const std::optional<std::array<int, 4>>& part,
                    const std::optional<std::array<int, 2>>& draft, bool mask) {
  DecodeOptions options{channels, exif_orientation, keep_truncated, max_pixels};
  options.mask = mask;
  const auto bytes = py::cast<std::string_view>(data);
  Decoder decoder;
  ImageInfo info;
  {
    const py::gil_scoped_release release;
    info = decoder.open(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), options);
    if (draft) info = decoder.set_draft((*draft)[0], (*draft)[1]);
  }
  IntBox box{0, 0, info.width, info.height};
  if (part) box = {(*part)[0], (*part)[1], (*part)[2], (*part)[3]};
  decoder.check_box(box);
  Pixels image({box.height(), box.width(), channels});
  ArraySink sink(image.mutable_data(), size_t(box.width()) * size_t(channels));
  {
    const py::gil_scoped_release release;
    decoder.read(box, sink);
  }
  return image;
}

// For benchmarks: decodes a box (x0, y0, x1, y1) of each JPEG file and discards the pixels. `scaled`: at this DCT
// scale, and the boxes are in pixels of the smaller image.
void decode_boxes(const std::vector<py::bytes>& files, const std::vector<std::array<int, 4>>& boxes, int threads,
                  bool libjpeg, int scale) {
  if (files.size() != boxes.size()) throw Error(Reason::value, "expected a box for each file");
  std::vector<std::string_view> data;
  data.reserve(files.size());
  for (const py::bytes& file : files) data.push_back(py::cast<std::string_view>(file));
  const py::gil_scoped_release release;
  struct Discard : RowSink {
    void push(const uint8_t*) override {}
  } discard;
  DecodeOptions options;
  options.huffman_reader = libjpeg ? HuffmanReader::libjpeg : HuffmanReader::checked;
  options.jump_restarts = true;
  ThreadPool pool(threads);
  std::vector<Decoder> decoders(static_cast<size_t>(pool.size()));
  pool.parallel_for(static_cast<int64_t>(files.size()), 8, [&](int64_t begin, int64_t end, int worker) {
    Decoder& decoder = decoders[static_cast<size_t>(worker)];
    for (int64_t i = begin; i < end; ++i) {
      const std::string_view bytes = data[static_cast<size_t>(i)];
      const auto [x0, y0, x1, y1] = boxes[static_cast<size_t>(i)];
      decoder.open(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), options);
      decoder.set_scale(scale);
      decoder.read({x0, y0, x1, y1}, discard);
    }
  });
}

std::tuple<const char*, int, int, int> image_info(const py::bytes& data) {
  const auto bytes = py::cast<std::string_view>(data);
  const py::gil_scoped_release release;
  DecodeOptions options;
  options.keep_truncated = true;  // only the header is needed
  options.max_pixels = UINT64_MAX;
  Decoder decoder;
  const ImageInfo info = decoder.open(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), options);
  return {format_name(info.format), info.width, info.height, info.orientation};
}

// Runs at import, so that a problem with libjpeg is reported there, once per process, and not for each image.
void check_jpeg() {
  const JpegLibraryCheck found = check_jpeg_library();
  if (!found.error.empty()) throw py::import_error(found.error);
  if (!found.warning.empty() && PyErr_WarnEx(PyExc_RuntimeWarning, found.warning.c_str(), 1) != 0) {
    throw py::error_already_set();
  }
}

}  // namespace

void register_decode(py::module_& m) {
  check_jpeg();
  m.def("decode_image", &decode_image, py::arg("data"), py::kw_only(), py::arg("channels") = 3,
        py::arg("exif_orientation") = true, py::arg("keep_truncated") = false,
        py::arg("max_pixels") = DecodeOptions{}.max_pixels, py::arg("box") = py::none(), py::arg("draft") = py::none(),
        py::arg("mask") = false);
  m.def("decode_boxes", &decode_boxes, py::arg("files"), py::arg("boxes"), py::arg("threads"), py::kw_only(),
        py::arg("libjpeg") = true, py::arg("scale") = 1);
  m.def("image_info", &image_info, py::arg("data"));
  m.def("codec_versions", &codec_versions);
}

}  // namespace lds
