// Registers the bindings of each file. Bindings validate and unwrap arguments, release the GIL and call the core.
#pragma once

#include <pybind11/pybind11.h>

namespace lds {

void register_resize(pybind11::module_& m);
void register_decode(pybind11::module_& m);
void register_specs(pybind11::module_& m);
void register_pack(pybind11::module_& m);
void register_store(pybind11::module_& m);
void register_gather(pybind11::module_& m);
void register_prefetch(pybind11::module_& m);
void register_shared(pybind11::module_& m);

}  // namespace lds
