#pragma once

#include <Python.h>

#include <exception>

namespace lds {

// Runs `work` without the GIL. For work that may last: when the interpreter ends meanwhile, taking the GIL again ends
// the thread by unwinding its stack (CPython up to 3.13), which the destructor of pybind11's gil_scoped_release, being
// noexcept, turns into an abort of the whole process.
template <class Work>
void without_gil(const Work& work) {
  std::exception_ptr error;
  PyThreadState* thread = PyEval_SaveThread();
  try {
    work();
  } catch (const std::exception&) {
    error = std::current_exception();
  }
  PyEval_RestoreThread(thread);
  if (error) std::rethrow_exception(error);
}

}  // namespace lds
