// Starts threads.
#pragma once

#include <system_error>
#include <thread>
#include <utility>

#include "common/error.h"

namespace lds {

// Error(Reason::io), and not std::system_error, when the system refuses to start another thread.
template <class Work>
std::thread start_thread(Work work) {
  try {
    return std::thread(std::move(work));
  } catch (const std::system_error& error) {
    throw Error(Reason::io, std::string("can't start a thread: ") + error.what() +
                                ". Raise the limit of processes (ulimit -u, pids.max), or use fewer threads.");
  }
}

}  // namespace lds
