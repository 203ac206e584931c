#include "common/error.h"

namespace lds {

const char* reason_name(Reason reason) noexcept {
  switch (reason) {
    case Reason::value: return "value";
    case Reason::index: return "index";
    case Reason::io: return "io";
    case Reason::corrupt: return "corrupt";
    case Reason::truncated: return "truncated";
    case Reason::too_large: return "too_large";
    case Reason::unsupported: return "unsupported";
    case Reason::shape: return "shape";
    case Reason::store: return "store";
    case Reason::cancelled: return "cancelled";
    case Reason::internal: return "internal";
  }
  return "internal";
}

}  // namespace lds
