// Hashes of rows: XXH3, 64 bits, seed 0. They find damage; they are no defence against forgery.
#pragma once

#include <cstdint>
#include <vector>

#include "common/thread_pool.h"
#include "store/fixed_rows.h"

namespace lds {

uint64_t hash_bytes(const uint8_t* data, int64_t bytes) noexcept;

// Fills hashes[i] for the n rows that lie one after the other at `data`.
void hash_rows(const uint8_t* data, int64_t n, int64_t row_bytes, uint64_t* hashes, ThreadPool& pool);

// Reads the rows of one file in order, in large pieces, and returns the indices (within the file) of those whose hash
// differs. Error(Reason::store) when the file is short.
std::vector<int64_t> damaged_rows(const ShardFile& file, int64_t row_bytes, const uint64_t* expected, ThreadPool& pool);

}  // namespace lds
