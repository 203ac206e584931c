// Binds Packer, and the functions that packing needs for folders and files.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind/arrays.h"
#include "bind/bind.h"
#include "bind/initialised.h"
#include "bind/specs.h"
#include "bind/without_gil.h"
#include "common/file.h"
#include "common/fork_local.h"
#include "packing/close_gaps.h"
#include "packing/insert_rows.h"
#include "packing/list_folder.h"
#include "packing/packer.h"

namespace py = pybind11;

namespace lds {
namespace {

using RowArray = py::array_t<uint8_t, py::array::c_style>;

// Encodes a path like os.fsencode, because file names need not be valid UTF-8.
std::string path_of(const py::handle& item) {
  py::object bytes = py::reinterpret_steal<py::object>(PyUnicode_EncodeFSDefault(item.ptr()));
  if (!bytes) throw py::error_already_set();
  return {PyBytes_AS_STRING(bytes.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.ptr()))};
}

PackItem part_of(const py::tuple& item) {
  if (item.size() != 3)
    throw Error(Reason::value,
                "a part of a file must be (path, offset, length), found a tuple of " + std::to_string(item.size()));
  PackItem part;
  part.path = path_of(item[0]);
  part.offset = item[1].cast<int64_t>();
  part.length = item[2].cast<int64_t>();
  if (part.offset < 0 || part.length < 0) {
    throw Error(Reason::value, "a part of a file must have an offset and a length of at least 0, found " +
                                   std::to_string(part.offset) + " and " + std::to_string(part.length));
  }
  return part;
}

// The type of an array's values, if images may have it.
std::optional<PixelType> type_of(const py::array& item) {
  const py::dtype dtype = item.dtype();
  if (dtype.byteorder() == '>') return std::nullopt;
  switch (dtype.kind()) {
    case 'u':
      if (dtype.itemsize() == 1) return PixelType::uint8;
      if (dtype.itemsize() == 2) return PixelType::uint16;
      return std::nullopt;
    case 'i': return dtype.itemsize() == 2 ? std::optional(PixelType::int16) : std::nullopt;
    case 'f':
      if (dtype.itemsize() == 2) return PixelType::float16;
      if (dtype.itemsize() == 4) return PixelType::float32;
      return std::nullopt;
    default: return std::nullopt;
  }
}

// An array (height, width, channels) whose pixels or planes are contiguous.
PackItem pixels_of(const py::array& item) {
  PackItem pixels;
  const std::optional<PixelType> type = type_of(item);
  if (type && item.ndim() == 3) {
    pixels.type = *type;
    const auto bytes = static_cast<ptrdiff_t>(pixel_bytes(*type));
    ConstImageView& view = pixels.pixels;
    view = ConstImageView::hwc(static_cast<const uint8_t*>(item.data()), static_cast<int>(item.shape(0)),
                               static_cast<int>(item.shape(1)), static_cast<int>(item.shape(2)));
    view.row_stride = item.strides(0);
    view.pixel_stride = item.strides(1);
    view.channel_stride = item.strides(2);
    const bool interleaved =
        view.pixel_stride == bytes * view.channels && (view.channel_stride == bytes || view.channels == 1);
    if (interleaved || view.pixel_stride == bytes) return pixels;
  }
  throw Error(Reason::value,
              "pixels must be an array (height, width, channels) of uint8, uint16, int16, float16 or float32, "
              "interleaved or planar");
}

PackItem item_of(const py::handle& item) {
  PackItem found;
  if (PyUnicode_Check(item.ptr())) {
    found.path = path_of(item);
    return found;
  }
  if (PyBytes_Check(item.ptr())) {
    found.bytes = {PyBytes_AS_STRING(item.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(item.ptr()))};
    return found;
  }
  if (PyTuple_Check(item.ptr())) return part_of(py::reinterpret_borrow<py::tuple>(item));
  if (py::isinstance<py::array>(item)) return pixels_of(py::reinterpret_borrow<py::array>(item));
  throw Error(Reason::value, "an item must be a path, bytes, (path, offset, length) or pixels, found " +
                                 py::cast<std::string>(py::repr(py::type::handle_of(item))));
}

std::vector<PackItem> items_of(const py::tuple& items) {
  std::vector<PackItem> list;
  list.reserve(items.size());
  for (const py::handle item : items) list.push_back(item_of(item));
  return list;
}

void set_memory(RowArray& out, int64_t row_bytes, PackTarget& target) {
  if (out.ndim() != 2 || out.shape(1) != row_bytes) {
    throw Error(Reason::value, "out must have the shape (rows, " + std::to_string(row_bytes) + "), found " +
                                   py::cast<std::string>(py::str(out.attr("shape"))));
  }
  target.memory = out.mutable_data();
  target.memory_rows = out.shape(0);
}

template <class Value>
py::array_t<Value> array_of(const std::vector<Value>& values) {
  return py::array_t<Value>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::tuple tuple_of(const ChannelSums& sums, int channels) {
  py::tuple total(channels);
  py::tuple squares(channels);
  for (int c = 0; c < channels; ++c) {
    const auto at = static_cast<size_t>(c);
    const bool summed = at < sums.total.size();  // arrays of values have more channels, and no sums
    total[c] = summed ? sums.total[at] : 0;
    squares[c] = summed ? sums.squares[at] : 0;
  }
  return py::make_tuple(sums.count, total, squares);
}

// A Packer, together with the Python objects whose memory its job uses.
class BoundPacker {
 public:
  BoundPacker(const PackSpec& spec, int threads)
      : channels_(spec.row.decode.channels), packer_(std::make_unique<Packer>(spec, threads)) {}

  ~BoundPacker() {
    Packer* packer = packer_.find();
    if (packer == nullptr) return;
    packer->cancel();
    PyThreadState* thread = PyEval_SaveThread();  // py::gil_scoped_release may throw, which a destructor must not
    while (!packer->wait(1.0)) {
    }
    PyEval_RestoreThread(thread);
  }
  BoundPacker(const BoundPacker&) = delete;
  BoundPacker& operator=(const BoundPacker&) = delete;

  int64_t sample_bytes() const { return packer().sample_bytes(); }

  void start(const py::tuple& items, int descriptor, int64_t offset, const std::optional<Indices>& rows,
             const std::optional<Indices>& samples, std::optional<RowArray> out) {
    std::vector<PackItem> list = items_of(items);
    PackTarget target;
    target.descriptor = descriptor;
    target.offset = offset;
    if (rows) target.rows = to_vector(*rows);
    if (out) set_memory(*out, packer().sample_bytes(), target);
    auto sample_numbers = samples ? to_vector(*samples) : std::vector<int64_t>{};
    Packer& packer = this->packer();
    {
      const py::gil_scoped_release nogil;
      packer.start(std::move(list), std::move(sample_numbers), std::move(target));
    }
    items_ = items;
    out_ = std::move(out);
  }

  bool wait(double seconds) {
    Packer& packer = this->packer();
    bool done = false;
    without_gil([&] { done = packer.wait(seconds); });
    return done;
  }

  int64_t done() const { return packer().done(); }
  void cancel() { packer().cancel(); }

  py::tuple result() {
    PackResult result;
    Packer& packer = this->packer();
    without_gil([&] { result = packer.result(); });
    items_ = py::tuple();
    out_.reset();
    py::list failures;
    for (const PackFailure& failure : result.failures) {
      failures.append(py::make_tuple(failure.item, reason_name(failure.reason), text_of(failure.message)));
    }
    jpeg_ = std::move(result.jpeg);
    return py::make_tuple(array_of(result.widths), array_of(result.heights), array_of(result.hashes), failures,
                          tuple_of(result.sums, channels_));
  }

  // Of the last job's rows; empty unless they are JPEG files.
  py::dict jpeg() const {
    py::dict columns;
    columns["kept"] = array_of(jpeg_.kept);
    columns["bytes"] = array_of(jpeg_.bytes);
    columns["height"] = array_of(jpeg_.heights);
    columns["width"] = array_of(jpeg_.widths);
    columns["orientation"] = array_of(jpeg_.orientations);
    columns["psnr"] = array_of(jpeg_.psnr);
    columns["source_bytes"] = array_of(jpeg_.source_bytes);
    return columns;
  }

  py::tuple clock() const {
    const PackClock clock = packer().clock();
    return py::make_tuple(clock.read, clock.decode, clock.write, clock.bytes_read);
  }

 private:
  Packer& packer() const { return packer_.get("a pack can't be continued in a forked process"); }

  int channels_;
  // The inputs and the output of a job. The destructor joins the job's threads before it releases them. `items_` is a
  // tuple, so that Python code can't remove an item while the job runs.
  py::tuple items_;
  std::optional<RowArray> out_;
  JpegResult jpeg_;
  ProcessOwned<Packer> packer_;
};

}  // namespace
}  // namespace lds

template <>
class pybind11::detail::type_caster<lds::BoundPacker> : public lds::InitialisedCaster<lds::BoundPacker> {};

namespace lds {
namespace {

py::tuple sums_of_rows(const RowArray& rows, int channels, bool planar) {
  if (rows.ndim() != 2 || channels < 1 || channels > 4 || rows.shape(1) % channels != 0) {
    throw Error(Reason::value, "expected rows of shape (n, values) with 1 to 4 channels");
  }
  ChannelSums sums;
  {
    const py::gil_scoped_release nogil;
    const int64_t values = rows.shape(1);
    for (int64_t i = 0; i < rows.shape(0); ++i) sums.add(rows.data() + i * values, values / channels, channels, planar);
  }
  return tuple_of(sums, channels);
}

// Returns (names of images, each terminated by a 0 byte; their number; names of folders; whether images are sorted).
py::tuple list_images(const py::str& path, const std::vector<std::string>& extensions) {
  FolderList found;
  {
    const std::string native = path_of(path);
    const py::gil_scoped_release nogil;
    found = list_folder(native, extensions);
  }
  py::list folders;
  for (const std::string& name : found.folders) folders.append(py::bytes(name));
  return py::make_tuple(py::bytes(found.images), found.count, folders, found.ascii);
}

std::unique_ptr<BoundPacker> make_packer(const RowSpec& row, int threads, int variants,
                                         const std::optional<AugmentSpec>& augment, uint64_t seed,
                                         const py::bytes& table, int value_bytes, std::optional<int> jpeg_quality,
                                         bool restarts, bool png, const std::optional<std::string>& values) {
  PackSpec spec;
  if (values) spec.values = pixel_type_named(*values);
  spec.png = png;
  if (jpeg_quality) spec.jpeg = JpegSpec{*jpeg_quality, restarts};
  spec.row = row;
  spec.variants = variants;
  spec.augment = augment;
  spec.seed = seed;
  const auto entries = py::cast<std::string_view>(table);
  spec.table.assign(entries.begin(), entries.end());
  spec.value_bytes = spec.values ? static_cast<int>(pixel_bytes(*spec.values)) : value_bytes;
  return std::make_unique<BoundPacker>(spec, threads);
}

// Runs one job, for tests and benchmarks. Returns (status, message, width, height) of each item.
py::list pack_once(const py::list& sources, RowArray& out, const RowSpec& row, int threads, PackWork work) {
  const py::tuple items(sources);
  PackSpec spec;
  spec.row = row;
  spec.work = work;
  PackResult result;
  {
    std::vector<PackItem> list = items_of(items);
    PackTarget target;
    set_memory(out, int64_t{row.out_h} * row.out_w * row.decode.channels, target);
    const py::gil_scoped_release nogil;
    Packer packer(spec, threads);
    packer.start(std::move(list), {}, std::move(target));
    result = packer.result();
  }
  py::list outcomes;
  for (size_t i = 0; i < items.size(); ++i) {
    outcomes.append(py::make_tuple("ok", "", result.widths[i], result.heights[i]));
  }
  for (const PackFailure& failure : result.failures) {
    outcomes[static_cast<size_t>(failure.item)] =
        py::make_tuple(reason_name(failure.reason), text_of(failure.message), 0, 0);
  }
  return outcomes;
}

}  // namespace

void register_pack(py::module_& m) {
  py::class_<BoundPacker>(m, "Packer")
      .def(py::init(&make_packer), py::arg("spec"), py::arg("threads"), py::kw_only(), py::arg("variants") = 1,
           py::arg("augment") = py::none(), py::arg("seed") = 0, py::arg("table") = py::bytes(),
           py::arg("value_bytes") = 1, py::arg("jpeg_quality") = py::none(), py::arg("restarts") = false,
           py::arg("png") = false, py::arg("values") = py::none())
      .def_property_readonly("sample_bytes", &BoundPacker::sample_bytes)
      .def("start", &BoundPacker::start, py::arg("items"), py::arg("descriptor") = -1, py::arg("offset") = 0,
           py::arg("rows") = py::none(), py::arg("samples") = py::none(), py::arg("out").noconvert() = py::none())
      .def("wait", &BoundPacker::wait, py::arg("seconds"))
      .def_property_readonly("done", &BoundPacker::done)
      .def("cancel", &BoundPacker::cancel)
      .def("result", &BoundPacker::result)
      .def("jpeg", &BoundPacker::jpeg)
      .def("clock", &BoundPacker::clock);
  m.def(
      "decode_to_rows",
      [](const py::list& sources, RowArray& out, const RowSpec& spec, int threads) {
        return pack_once(sources, out, spec, threads, PackWork::rows);
      },
      py::arg("sources"), py::arg("out").noconvert(), py::arg("spec"), py::arg("threads"));
  m.def(
      "decode_only",
      [](const py::list& sources, RowArray& out, const RowSpec& spec, int threads, bool whole) {
        return pack_once(sources, out, spec, threads, whole ? PackWork::decode_whole : PackWork::decode_needed);
      },
      py::arg("sources"), py::arg("out").noconvert(), py::arg("spec"), py::arg("threads"), py::arg("whole"));
  m.def("list_folder", &list_images, py::arg("path"), py::arg("extensions"));
  m.def("begin_write_back", &begin_write_back, py::arg("descriptor"), py::arg("offset"), py::arg("bytes"),
        py::call_guard<py::gil_scoped_release>());
  m.def("channel_sums", &sums_of_rows, py::arg("rows").noconvert(), py::arg("channels"), py::arg("planar"));
  m.def(
      "insert_rows",
      [](int descriptor, int64_t offset, const Indices& lengths, const RowArray& inserted, int source) {
        const std::vector<int64_t> bytes = to_vector(lengths);
        const std::vector<uint8_t> flags(inserted.data(), inserted.data() + inserted.size());
        const py::gil_scoped_release nogil;
        insert_rows(descriptor, offset, bytes, flags, source);
      },
      py::arg("descriptor"), py::arg("offset"), py::arg("lengths"), py::arg("inserted").noconvert(), py::arg("source"));
  m.def(
      "close_gaps",
      [](int descriptor, int64_t offset, int64_t row_bytes, const Indices& kept) {
        const std::vector<int64_t> rows = to_vector(kept);
        const py::gil_scoped_release nogil;
        close_gaps(descriptor, offset, row_bytes, rows);
      },
      py::arg("descriptor"), py::arg("offset"), py::arg("row_bytes"), py::arg("kept"));
}

}  // namespace lds
