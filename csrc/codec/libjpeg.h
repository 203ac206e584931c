// Includes libjpeg's public header together with the headers that it needs.
#pragma once

#include <cstddef>
// clang-format off: jpeglib.h needs what <cstdio> declares
#include <cstdio>
#include <jpeglib.h>
// clang-format on

#ifndef LIBJPEG_TURBO_VERSION
#error \
    "largeds_native needs the headers of libjpeg-turbo, and found those of another libjpeg. On Debian and Ubuntu: \
apt-get install libjpeg-dev. Elsewhere, put libjpeg-turbo's folder first: CPPFLAGS=-I... LDFLAGS=-L..."
#endif
