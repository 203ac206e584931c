#include "bind/bind.h"

namespace lds {

void register_resize(pybind11::module_&) {}

}  // namespace lds
