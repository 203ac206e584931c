// Defines the extension module largeds_native._C.
#include "bind/arrays.h"
#include "bind/bind.h"
#include "common/error.h"
#include "common/simd.h"

namespace py = pybind11;

namespace {

// The class in largeds_native.errors for an lds::Error of this reason.
const char* exception_class(lds::Reason reason) {
  switch (reason) {
    case lds::Reason::value: return "ArgumentError";
    case lds::Reason::index: return "RowIndexError";
    case lds::Reason::io: return "StorageError";
    case lds::Reason::store: return "StoreError";
    case lds::Reason::corrupt:
    case lds::Reason::truncated:
    case lds::Reason::too_large:
    case lds::Reason::unsupported:
    case lds::Reason::shape: return "DecodeError";
    default: return "LargedsError";
  }
}

void translate(std::exception_ptr pointer) {  // NOLINT(performance-unnecessary-value-param): pybind11's signature
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const lds::Error& error) {
    const py::object cls = py::module_::import("largeds_native.errors").attr(exception_class(error.reason()));
    PyErr_SetObject(cls.ptr(), lds::text_of(error.what()).ptr());
  }
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "The C++ core of largeds_native. Its functions are wrapped by the package; see there.";
  py::register_local_exception_translator(&translate);
  static_cast<void>(lds::simd());  // an invalid LARGEDS_SIMD is an error at import
  m.def(
      "simd", [] { return std::string(lds::simd_name(lds::simd())); },
      "The instruction set that the kernels use: avx512, avx2, neon or scalar.");
  m.def(
      "supported_simd",
      [] {
        py::list names;
        for (const lds::Simd set : lds::supported_simd()) names.append(lds::simd_name(set));
        return names;
      },
      "The instruction sets that this processor supports, the fastest last.");
  lds::register_decode(m);  // first, because it fails if libjpeg is incompatible
  lds::register_resize(m);
  lds::register_specs(m);
  lds::register_pack(m);
  lds::register_store(m);
  lds::register_gather(m);
  lds::register_prefetch(m);
  lds::register_shared(m);
}
