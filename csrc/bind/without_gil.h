// Releases the GIL for work that may take long.
#pragma once

#include <Python.h>

#include <exception>

namespace lds {

// Runs `work` without the GIL. Unlike pybind11's gil_scoped_release, it is safe if the interpreter is finalised during
// `work`: up to CPython 3.13, re-acquiring the GIL then ends the thread by unwinding its stack, and in the noexcept
// destructor of gil_scoped_release this aborts the process.
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
