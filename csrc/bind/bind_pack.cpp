#include "bind/bind.h"

namespace lds {

void register_pack(pybind11::module_&) {}

}  // namespace lds
