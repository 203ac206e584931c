// Refuses objects that Python made by `__new__` without `__init__`, which have no value of C++.
#pragma once

#include <pybind11/pybind11.h>

#include "common/thread_pool.h"
#include "loading/gather.h"
#include "packing/image_to_row.h"
#include "store/concat_rows.h"
#include "store/encoded_rows.h"
#include "store/fixed_rows.h"
#include "store/label_rows.h"

namespace lds {

// The caster of a bound class. pybind11's own would hand out memory that no constructor has filled; with this one, the
// call is a TypeError. Each bound class needs it before it is used first.
template <class T>
class InitialisedCaster : public pybind11::detail::type_caster_base<T> {
 public:
  bool load(pybind11::handle source, bool convert) {
    return (!pybind11::isinstance<T>(source) || has_value(source)) &&
           pybind11::detail::type_caster_base<T>::load(source, convert);
  }

 private:
  static bool has_value(pybind11::handle source) {
    auto* instance = reinterpret_cast<pybind11::detail::instance*>(source.ptr());
    return instance->get_value_and_holder().holder_constructed();
  }
};

}  // namespace lds

namespace pybind11::detail {

template <>
class type_caster<lds::AugmentSpec> : public lds::InitialisedCaster<lds::AugmentSpec> {};
template <>
class type_caster<lds::ConcatRows> : public lds::InitialisedCaster<lds::ConcatRows> {};
template <>
class type_caster<lds::FixedRows> : public lds::InitialisedCaster<lds::FixedRows> {};
template <>
class type_caster<lds::Gather> : public lds::InitialisedCaster<lds::Gather> {};
template <>
class type_caster<lds::ImageLayout> : public lds::InitialisedCaster<lds::ImageLayout> {};
template <>
class type_caster<lds::LabelRows> : public lds::InitialisedCaster<lds::LabelRows> {};
template <>
class type_caster<lds::OutputSpec> : public lds::InitialisedCaster<lds::OutputSpec> {};
template <>
class type_caster<lds::EncodedRows> : public lds::InitialisedCaster<lds::EncodedRows> {};
template <>
class type_caster<lds::Picture> : public lds::InitialisedCaster<lds::Picture> {};
template <>
class type_caster<lds::ReadSpec> : public lds::InitialisedCaster<lds::ReadSpec> {};
template <>
class type_caster<lds::RowSource> : public lds::InitialisedCaster<lds::RowSource> {};
template <>
class type_caster<lds::RowSpec> : public lds::InitialisedCaster<lds::RowSpec> {};
template <>
class type_caster<lds::ThreadPool> : public lds::InitialisedCaster<lds::ThreadPool> {};

}  // namespace pybind11::detail
