// A process that can't start a thread.
#pragma once

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

// Runs `check` in a forked child that may start no thread; true when it returned true there.
template <class Check>
bool without_threads(Check check) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit none{0, 0};
    const bool limited = setrlimit(RLIMIT_NPROC, &none) == 0 && (getuid() != 0 || setuid(65534) == 0);
    _exit(limited && check() ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status == 0;
}
