// Register tiles of a matrix product: the inner loop of every dense product in the library.
#pragma once

#include "common/simd.h"

namespace {

// Registers: ROWS x VECS accumulators, VECS of B and one broadcast of A; 32 vector registers with AVX-512, else 16.
constexpr int kTileRows = kLanes == 16 ? 8 : 4;
constexpr int kTileVecs = 3;

// The operands of C (rows, columns) = [C +] A (rows, depth) B (depth, columns). A is read as scalars at any pair of
// strides, so that a transposed A costs nothing; rows of B and C are contiguous.
struct Product {
  const float* a;
  std::int64_t a_row, a_depth;  // strides of A in floats
  const float* b;
  std::int64_t b_row;
  float* c;
  std::int64_t c_row;
  std::int64_t depth;
  bool accumulate;                          // add to C instead of overwriting it
  const std::int32_t* b_offsets = nullptr;  // `gathered_product`: row k of B begins at b + b_offsets[k]
  // When adding: sums begin at zero and are added to C at the end, so that those of long depths, taken a part at a
  // time, keep more digits; else they go on from C, as if all had been one product.
  bool apart = false;
};

// Indices are all compile-time constants: a dynamic one would keep the accumulators in memory.
template <int ROWS, int VECS, bool GATHERED>
SKELKERN_INLINE void product_tile(const Product& operands, std::int64_t row, std::int64_t column) {
  const Product p = operands;  // a copy, which what is stored to C cannot change
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column;
  Vec sum[ROWS][VECS];
  for (int i = 0; i < ROWS; ++i) {  // C is needed after the whole depth, and is there by then
    const float* const c = p.c + (row + i) * p.c_row + column;
    __builtin_prefetch(c, 1);
    __builtin_prefetch(c + VECS * kLanes - 1, 1);
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < VECS; ++j)
      sum[i][j] = p.accumulate && !p.apart ? load(p.c + (row + i) * p.c_row + column + j * kLanes) : Vec{};
  for (std::int64_t k = 0; k < p.depth; ++k, a += p.a_depth) {
    const float* const row_of_b = GATHERED ? b + p.b_offsets[k] : b + k * p.b_row;
    Vec line[VECS];
#pragma GCC unroll 4
    for (int j = 0; j < VECS; ++j) line[j] = load(row_of_b + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
      const Vec scalar = splat(a[i * p.a_row]);
#pragma GCC unroll 4
      for (int j = 0; j < VECS; ++j) sum[i][j] += scalar * line[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < VECS; ++j) {
      float* const c = p.c + (row + i) * p.c_row + column + j * kLanes;
      store(c, p.accumulate && p.apart ? load(c) + sum[i][j] : sum[i][j]);
    }
}

template <int ROWS, bool GATHERED>
SKELKERN_INLINE void product_rows(const Product& p, std::int64_t row, std::int64_t columns) {
  std::int64_t column = 0;
  for (; column + kTileVecs * kLanes <= columns && columns - column != 4 * kLanes; column += kTileVecs * kLanes)
    product_tile<ROWS, kTileVecs, GATHERED>(p, row, column);
  for (; columns - column >= 2 * kLanes; column += 2 * kLanes) product_tile<ROWS, 2, GATHERED>(p, row, column);
  if (columns - column >= kLanes) product_tile<ROWS, 1, GATHERED>(p, row, column);
}

template <bool GATHERED>
SKELKERN_INLINE void product_of(const Product& p, std::int64_t rows, std::int64_t columns) {
  std::int64_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) product_rows<kTileRows, GATHERED>(p, row, columns);
  if (rows - row >= 4) product_rows<4, GATHERED>(p, row, columns), row += 4;
  if (rows - row >= 2) product_rows<2, GATHERED>(p, row, columns), row += 2;
  if (rows - row >= 1) product_rows<1, GATHERED>(p, row, columns);
}

// `columns` is a multiple of kLanes: callers pad rows of B and C.
inline void product(const Product& p, std::int64_t rows, std::int64_t columns) { product_of<false>(p, rows, columns); }

// The same where the rows of B lie anywhere.
inline void gathered_product(const Product& p, std::int64_t rows, std::int64_t columns) {
  product_of<true>(p, rows, columns);
}

}  // namespace
