#include "bind/bind.h"

namespace lds {

void register_prefetch(pybind11::module_&) {}

}  // namespace lds
