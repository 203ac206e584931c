// Runs code in a process that can't start threads.
#pragma once

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

// Runs `check` in a forked child that can't start threads. True if `check` returned true.
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
