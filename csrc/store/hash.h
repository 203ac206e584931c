// Hashes rows with XXH3 (64 bits, seed 0) to detect damaged files. XXH3 does not protect against deliberate changes.
#pragma once

#include <cstdint>
#include <string>

#include "common/thread_pool.h"
#include "store/fixed_rows.h"

namespace lds {

uint64_t hash_bytes(const uint8_t* data, int64_t bytes) noexcept;

// Computes hashes[i] for each of the n contiguous rows at `data`.
void hash_rows(const uint8_t* data, int64_t n, int64_t row_bytes, uint64_t* hashes, ThreadPool& pool);

// The same for the rows of a file. Error(Reason::store) if it is too short.
void hash_rows(const ShardFile& file, int64_t row_bytes, uint64_t* hashes, ThreadPool& pool);

// The same for rows of many sizes: row i is [offsets[i], offsets[i + 1]) of the file, and offsets never decrease.
void hash_rows(const std::string& path, const int64_t* offsets, int64_t rows, uint64_t* hashes, ThreadPool& pool);

}  // namespace lds
