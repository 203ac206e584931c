// Binds the rows of a store, and their hashes.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <tuple>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/initialised.h"
#include "common/file.h"
#include "store/concat_rows.h"
#include "store/encoded_rows.h"
#include "store/fixed_rows.h"
#include "store/hash.h"
#include "store/image_reader.h"
#include "store/label_rows.h"

namespace py = pybind11;

namespace lds {
namespace {

using Hashes = py::array_t<uint64_t, py::array::c_style | py::array::forcecast>;
using FileTuple = std::tuple<std::string, int64_t, int64_t>;
// The paths of the images, offsets, sizes and orientations; the number of rows, and the bytes of the images.
using EncodedShardTuple = std::tuple<std::string, std::string, std::string, std::string, int64_t, int64_t>;

ShardFile shard_file(const FileTuple& tuple) { return {std::get<0>(tuple), std::get<1>(tuple), std::get<2>(tuple)}; }

std::vector<ShardFile> shard_files(const std::vector<FileTuple>& files) {
  std::vector<ShardFile> shards;
  shards.reserve(files.size());
  for (const FileTuple& file : files) shards.push_back(shard_file(file));
  return shards;
}

Files files_of(bool arriving) { return arriving ? Files::arriving : Files::present; }

std::shared_ptr<FixedRows> make_rows(const std::vector<FileTuple>& files, int64_t row_bytes, bool arriving) {
  std::vector<ShardFile> shards = shard_files(files);
  const py::gil_scoped_release nogil;
  return std::make_shared<FixedRows>(std::move(shards), row_bytes, files_of(arriving));
}

std::shared_ptr<LabelRows> make_label_rows(const std::vector<FileTuple>& files, int64_t row_bytes, bool is_signed,
                                           const std::vector<std::tuple<int64_t, std::vector<int64_t>>>& parts,
                                           bool arriving) {
  std::vector<ShardFile> shards = shard_files(files);
  std::vector<Renumbering> renumberings;
  renumberings.reserve(parts.size());
  for (const auto& [rows, numbers] : parts) renumberings.push_back({rows, numbers});
  const py::gil_scoped_release nogil;
  return std::make_shared<LabelRows>(std::move(shards), row_bytes, is_signed, std::move(renumberings),
                                     files_of(arriving));
}

py::array_t<uint8_t> read_rows(const FixedRows& rows, const Indices& indices) {
  py::array_t<uint8_t> out({static_cast<py::ssize_t>(indices.size()), static_cast<py::ssize_t>(rows.row_bytes())});
  const int64_t* values = indices.data();
  uint8_t* data = out.mutable_data();
  const int64_t n = indices.size();
  {
    const py::gil_scoped_release nogil;
    rows.read(values, n, data);
  }
  return out;
}

// (address, bytes) of the memory in which each file is mapped, up to the end of its rows.
std::vector<std::pair<uintptr_t, int64_t>> mapped(const FixedRows& rows) {
  std::vector<std::pair<uintptr_t, int64_t>> found;
  const py::gil_scoped_release nogil;
  for (const auto& [data, bytes] : rows.mapped()) found.emplace_back(reinterpret_cast<uintptr_t>(data), bytes);
  return found;
}

// The address of each of these rows.
py::array_t<uintptr_t> addresses(const FixedRows& rows, const Indices& indices) {
  py::array_t<uintptr_t> out(indices.size());
  const int64_t* values = indices.data();
  uintptr_t* found = out.mutable_data();
  const int64_t n = indices.size();
  {
    const py::gil_scoped_release nogil;
    for (int64_t i = 0; i < n; ++i) found[i] = reinterpret_cast<uintptr_t>(rows.row(values[i]).data);
  }
  return out;
}

std::shared_ptr<EncodedRows> make_jpeg_rows(const std::vector<EncodedShardTuple>& files, int64_t array_offset,
                                            bool arriving) {
  std::vector<EncodedShardFiles> shards;
  shards.reserve(files.size());
  for (const auto& [images, offsets, sizes, orientations, rows, bytes] : files) {
    shards.push_back({images, offsets, sizes, orientations, rows, bytes});
  }
  const py::gil_scoped_release nogil;
  return std::make_shared<EncodedRows>(std::move(shards), array_offset, files_of(arriving));
}

std::shared_ptr<ConcatRows> make_concat_rows(const std::vector<std::shared_ptr<RowSource>>& parts) {
  std::vector<std::shared_ptr<const RowSource>> sources;
  for (const auto& part : parts) {
    if (!part) throw Error(Reason::value, "parts: expected rows, found None");
    sources.push_back(part);
  }
  return std::make_shared<ConcatRows>(std::move(sources));
}

py::bytes read_jpeg(const EncodedRows& rows, int64_t index) {
  std::vector<uint8_t> data;
  {
    const py::gil_scoped_release nogil;
    data = rows.read(index);
  }
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

// The whole image of a row, (height, width, channels), or mask, (height, width, bytes of a number).
py::array_t<uint8_t> decode_jpeg(const EncodedRows& rows, int64_t index, const ReadSpec& spec) {
  std::unique_ptr<ImageReader> reader;
  ConstImageView image;
  {
    const py::gil_scoped_release nogil;
    reader = make_image_reader(spec);
    with_row(rows, index, [&](const Extent& row) {
      const ImageSize size = reader->open(row);
      image = reader->read({0, 0, size.width, size.height});
    });
  }
  const auto pixel_bytes = static_cast<int>(image.pixel_stride);
  py::array_t<uint8_t> out({image.height, image.width, pixel_bytes});
  std::copy_n(image.data, out.size(), out.mutable_data());
  return out;
}

void will_need(const RowSource& rows, const Indices& indices) {
  const int64_t* values = indices.data();
  const int64_t n = indices.size();
  const py::gil_scoped_release nogil;
  rows.will_need(values, n);
}

Hashes hash_buffer(const py::buffer& buffer, int64_t row_bytes, int threads) {
  const py::buffer_info info = buffer.request();
  if (row_bytes < 1 || PyBuffer_IsContiguous(info.view(), 'C') == 0 || info.view()->len % row_bytes != 0) {
    throw Error(Reason::value, "expected a contiguous buffer of whole rows of " + std::to_string(row_bytes) +
                                   " bytes, found " + std::to_string(info.size * info.itemsize) + " bytes");
  }
  const int64_t n = info.view()->len / row_bytes;
  Hashes hashes(n);
  uint64_t* out = hashes.mutable_data();
  {
    const py::gil_scoped_release nogil;
    ThreadPool pool(threads);
    hash_rows(static_cast<const uint8_t*>(info.ptr), n, row_bytes, out, pool);
  }
  return hashes;
}

Hashes hash_file(const FileTuple& file, int64_t row_bytes, int threads) {
  const ShardFile shard = shard_file(file);
  if (row_bytes < 1) throw Error(Reason::value, "expected rows of at least a byte");
  Hashes hashes(shard.rows);
  uint64_t* out = hashes.mutable_data();
  {
    const py::gil_scoped_release nogil;
    ThreadPool pool(threads);
    hash_rows(shard, row_bytes, out, pool);
  }
  return hashes;
}

Hashes hash_file_rows(const std::string& path, const Indices& offsets, int threads) {
  const int64_t n = offsets.size() - 1;
  const int64_t* begins = offsets.data();
  if (n < 0 || begins[0] < 0 || !std::is_sorted(begins, begins + n + 1)) {
    throw Error(Reason::store, path + ": the offsets of its rows are not in order");
  }
  Hashes hashes(n);
  uint64_t* out = hashes.mutable_data();
  {
    const py::gil_scoped_release nogil;
    ThreadPool pool(threads);
    hash_rows(path, begins, n, out, pool);
  }
  return hashes;
}

}  // namespace

void register_store(py::module_& m) {
  py::class_<RowSource, std::shared_ptr<RowSource>>(m, "RowSource")
      .def("__len__", &RowSource::size)
      .def("will_need", &will_need, py::arg("indices"))
      .def("release", &RowSource::release, py::arg("index"), py::call_guard<py::gil_scoped_release>());
  py::class_<ConcatRows, RowSource, std::shared_ptr<ConcatRows>>(m, "ConcatRows")
      .def(py::init(&make_concat_rows), py::arg("parts"));
  py::class_<EncodedRows, RowSource, std::shared_ptr<EncodedRows>>(m, "EncodedRows")
      .def(py::init(&make_jpeg_rows), py::arg("shards"), py::arg("array_offset"), py::arg("arriving") = false)
      .def("read", &read_jpeg, py::arg("index"))
      .def("decode", &decode_jpeg, py::arg("index"), py::arg("spec"));
  py::class_<FixedRows, RowSource, std::shared_ptr<FixedRows>>(m, "Rows")
      .def(py::init(&make_rows), py::arg("shards"), py::arg("row_bytes"), py::arg("arriving") = false)
      .def_property_readonly("row_bytes", &FixedRows::row_bytes)
      .def("read", &read_rows, py::arg("indices"))
      .def("mapped", &mapped)
      .def("addresses", &addresses, py::arg("indices"));
  py::class_<LabelRows, FixedRows, std::shared_ptr<LabelRows>>(m, "LabelRows")
      .def(py::init(&make_label_rows), py::arg("shards"), py::arg("row_bytes"), py::arg("signed"), py::arg("parts"),
           py::arg("arriving") = false);
  m.def("hash_rows", &hash_buffer, py::arg("buffer"), py::arg("row_bytes"), py::arg("threads") = 1);
  m.def("hash_file", &hash_file, py::arg("file"), py::arg("row_bytes"), py::arg("threads") = 1);
  m.def("hash_file_rows", &hash_file_rows, py::arg("path"), py::arg("offsets"), py::arg("threads") = 1);
  m.def("reserve", &reserve_file, py::arg("path"), py::arg("bytes"), py::call_guard<py::gil_scoped_release>());
}

}  // namespace lds
