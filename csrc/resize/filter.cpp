#include "resize/filter.h"

#include <array>
#include <string_view>
#include <utility>

#include "common/error.h"

namespace lds {

Filter filter_named(const std::string& name) {
  static constexpr std::array<std::pair<std::string_view, Filter>, 5> kFilters{{{"nearest", Filter::nearest},
                                                                                {"box", Filter::box},
                                                                                {"bilinear", Filter::bilinear},
                                                                                {"bicubic", Filter::bicubic},
                                                                                {"lanczos", Filter::lanczos}}};
  for (const auto& [known, filter] : kFilters) {
    if (known == name) return filter;
  }
  throw Error(Reason::value,
              "interpolation: expected one of nearest, box, bilinear, bicubic, lanczos, found '" + name + "'");
}

}  // namespace lds
