// Hashes rows with XXH3 (64 bits, seed 0) to detect damaged files. XXH3 does not protect against deliberate changes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/thread_pool.h"
#include "store/fixed_rows.h"

namespace lds {

uint64_t hash_bytes(const uint8_t* data, int64_t bytes) noexcept;

// Computes hashes[i] for each of the n contiguous rows at `data`.
void hash_rows(const uint8_t* data, int64_t n, int64_t row_bytes, uint64_t* hashes, ThreadPool& pool);

// Reads one file and returns the indices, within the file, of the rows whose hash differs from `expected`.
// Error(Reason::store) if the file is too short.
std::vector<int64_t> damaged_rows(const ShardFile& file, int64_t row_bytes, const uint64_t* expected, ThreadPool& pool);

// The same for rows of many sizes: row i is [offsets[i], offsets[i + 1]) of the file, and offsets never decrease.
std::vector<int64_t> damaged_rows(const std::string& path, const int64_t* offsets, int64_t rows,
                                  const uint64_t* expected, ThreadPool& pool);

}  // namespace lds
