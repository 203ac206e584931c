// Wraps libjpeg's compressor in functions that neither throw nor longjmp: each returns false if libjpeg reported an
// error. See Note [setjmp] in jpeg_handle.h.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>

#include "codec/libjpeg.h"
#include "common/error.h"

namespace lds {

struct JpegWriteHandle {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_destination_mgr destination{};
  std::jmp_buf jump{};

  // The file that is written: allocated by malloc, as libjpeg calls back from where nothing may be thrown.
  uint8_t* bytes = nullptr;
  size_t capacity = 0;
  size_t size = 0;  // after finish()

  Reason reason = Reason::corrupt;
  bool out_of_memory = false;
  char message[JMSG_LENGTH_MAX]{};

  // Error if libjpeg refuses to start, because its version differs from that of the headers.
  JpegWriteHandle();
  ~JpegWriteHandle();
  JpegWriteHandle(const JpegWriteHandle&) = delete;
  JpegWriteHandle& operator=(const JpegWriteHandle&) = delete;

  // Starts an image of 1 (grey) or 3 (RGB) interleaved channels: 4:2:0, the standard Huffman tables, a restart marker
  // each row of MCUs.
  bool start(int width, int height, int channels, int quality);
  bool write_rows(JSAMPROW* rows, JDIMENSION count);

  // Starts a file with the coefficients that `source` has read, whole: optimised Huffman tables, a restart marker each
  // row of MCUs. `exif` becomes an APP1 segment if it is not empty.
  bool start_copy(jpeg_decompress_struct* source, jvirt_barray_ptr* coefficients, const uint8_t* exif,
                  unsigned exif_size);

  bool finish();
  void abort();  // prepares for the next file

  // Error, or bad_alloc, of the function that returned false; and abort().
  [[noreturn]] void fail();
};

}  // namespace lds
