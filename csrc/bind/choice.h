// Maps the names that Python passes to enum values.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "common/error.h"

namespace lds {

// The value for `name`. For another name, Error(Reason::value) starts with `what` and lists the valid names.
template <class Value>
Value choice(const char* what, std::initializer_list<std::pair<std::string_view, Value>> values,
             const std::string& name) {
  std::string known;
  for (const auto& [text, value] : values) {
    if (text == name) return value;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  throw Error(Reason::value, std::string(what) + ": expected one of " + known + ", found '" + name + "'");
}

}  // namespace lds
