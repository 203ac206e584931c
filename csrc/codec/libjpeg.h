// Includes libjpeg's public header together with the headers that it needs.
#pragma once

#include <cstddef>
// clang-format off: jpeglib.h needs what <cstdio> declares, and jerror.h needs JPEG_LIB_VERSION: the error codes of a
// libjpeg-turbo with the ABI of libjpeg 8, as Ubuntu's, are other numbers
#include <cstdio>
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#ifndef LIBJPEG_TURBO_VERSION
#error \
    "largeds_native needs the headers of libjpeg-turbo, and found those of another libjpeg. On Debian and Ubuntu: \
apt-get install libjpeg-dev. Elsewhere, put libjpeg-turbo's folder first: CPPFLAGS=-I... LDFLAGS=-L..."
#endif
