#include "bind/bind.h"

namespace lds {

void register_decode(pybind11::module_&) {}

}  // namespace lds
