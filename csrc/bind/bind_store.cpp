#include "bind/bind.h"

namespace lds {

void register_store(pybind11::module_&) {}

}  // namespace lds
