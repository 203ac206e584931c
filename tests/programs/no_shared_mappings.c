// Before the C library: a file system that maps private pages only, as FUSE with direct_io, or none where NO_MAPPINGS is
// set.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int is_images(int descriptor) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path);
  static const char name[] = "/images.npy";
  const ssize_t end = (ssize_t)sizeof name - 1;
  return length >= end && memcmp(path + length - end, name, (size_t)end) == 0;
}

void* mmap(void* address, size_t bytes, int protection, int flags, int descriptor, off_t offset) {
  static void* (*next)(void*, size_t, int, int, int, off_t);
  if (!next) *(void**)&next = dlsym(RTLD_NEXT, "mmap");
  if (descriptor >= 0 && ((flags & MAP_SHARED) || getenv("NO_MAPPINGS")) && is_images(descriptor)) {
    errno = ENODEV;
    return MAP_FAILED;
  }
  return next(address, bytes, protection, flags, descriptor, offset);
}
