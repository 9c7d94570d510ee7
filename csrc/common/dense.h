// Dense products of any size. Blocks of both operands are packed into the order in which the register tiles read them,
// so that a transposed operand costs nothing; every chunk packs its own, which is a few percent of its multiplications.
#pragma once

#include <algorithm>

#include "common/parallel.h"
#include "common/tile.h"

namespace {

// C (rows, columns) = [C +] A (rows, depth) B (depth, columns) [+ bias], then [ReLU]. Strides are in floats; of A's two
// and of B's two at least one is 1.
struct DenseProduct {
  const float* a;
  std::int64_t a_row, a_depth;
  const float* b;
  std::int64_t b_depth, b_column;
  float* c;  // rows are contiguous
  std::int64_t c_row;
  std::int64_t rows, columns, depth;
  const float* bias;  // optional (columns)
  bool relu;
  bool accumulate = false;  // add to C instead of overwriting it
};

constexpr std::int64_t kDenseRows = 256;     // of a chunk; its packed A (kDenseRows, kDenseDepth) and
constexpr std::int64_t kDenseColumns = 384;  // B (kDenseDepth, kDenseColumns) stay in L2 together
constexpr std::int64_t kDenseDepth = 256;
constexpr std::int64_t kDensePanel = 48;  // columns of a panel of B: whole register tiles at every level

// Columns [0, columns) and depth [0, depth) of b as panels (columns / kDensePanel, depth, kDensePanel), zero-padded.
inline void pack_columns(const float* b, std::int64_t b_depth, std::int64_t b_column, std::int64_t depth,
                         std::int64_t columns, float* panels) {
  for (std::int64_t column = 0; column < columns; column += kDensePanel, panels += depth * kDensePanel) {
    const std::int64_t width = std::min(kDensePanel, columns - column);
    if (width < kDensePanel) std::fill_n(panels, depth * kDensePanel, 0.0f);
    const float* source = b + column * b_column;
    if (b_column != 1) {
      transpose(source, b_column, width, depth, panels, kDensePanel);
      continue;
    }
    for (std::int64_t k = 0; k < depth; ++k)
      for (std::int64_t j = 0; j < width; j += kLanes) {
        const int lanes = lanes_left(width, j);
        store_part(panels + k * kDensePanel + j, load_part(source + k * b_depth + j, lanes), lanes);
      }
  }
}

// Rows [0, rows) of a as panels (rows / kLanes, depth, kLanes); lanes beyond the last row hold anything.
inline void pack_rows(const float* a, std::int64_t a_row, std::int64_t a_depth, std::int64_t depth, std::int64_t rows,
                      float* panels) {
  for (std::int64_t row = 0; row < rows; row += kLanes, panels += depth * kLanes) {
    const int lanes = lanes_left(rows, row);
    if (a_row != 1)
      transpose(a + row * a_row, a_row, lanes, depth, panels, kLanes);
    else
      for (std::int64_t k = 0; k < depth; ++k) store(panels + k * kLanes, load_part(a + row + k * a_depth, lanes));
  }
}

// target (rows, columns) [+]= packed rows times packed columns. edge: (kLanes, kDensePanel) of any content.
inline void multiply_packed(const float* rows_packed, const float* columns_packed, std::int64_t rows,
                            std::int64_t columns, std::int64_t depth, bool accumulate, float* target,
                            std::int64_t target_row, float* edge) {
  for (std::int64_t column = 0; column < columns; column += kDensePanel) {
    const std::int64_t width = std::min(kDensePanel, columns - column);
    const float* b = columns_packed + column * depth;
    for (std::int64_t row = 0; row < rows; row += kLanes) {
      const std::int64_t height = std::min<std::int64_t>(kLanes, rows - row);
      const float* a = rows_packed + row * depth;
      float* c = target + row * target_row + column;
      if (width % kLanes == 0) {
        product({a, 1, kLanes, b, kDensePanel, c, target_row, depth, accumulate, nullptr, true}, height, width);
        continue;
      }
      for (std::int64_t i = 0; accumulate && i < height; ++i)
        std::copy_n(c + i * target_row, width, edge + i * kDensePanel);
      product({a, 1, kLanes, b, kDensePanel, edge, kDensePanel, depth, accumulate, nullptr, true}, height,
              round_up(width, kLanes));
      for (std::int64_t i = 0; i < height; ++i) std::copy_n(edge + i * kDensePanel, width, c + i * target_row);
    }
  }
}

// Adds the bias and applies the ReLU to a block of C that starts at `column`.
inline void finish_block(const DenseProduct& p, std::int64_t row, std::int64_t rows, std::int64_t column,
                         std::int64_t columns) {
  for (std::int64_t i = row; i < row + rows; ++i)
    for (std::int64_t j = column; j < column + columns; j += kLanes) {
      const int lanes = lanes_left(column + columns, j);
      Vec value = load_part(p.c + i * p.c_row + j, lanes);
      if (p.bias != nullptr) value += load_part(p.bias + j, lanes);
      if (p.relu) value = (Vec)((IntVec)value & ~(IntVec)(value < 0.0f));
      store_part(p.c + i * p.c_row + j, value, lanes);
    }
}

// How a product is cut: by its shape alone.
struct DensePlan {
  std::int64_t rows, columns;              // of a chunk
  std::int64_t row_blocks, column_blocks;  // chunks of C
  std::int64_t splits, depth;              // parts of the depth, summed in order; depth of one

  explicit DensePlan(const DenseProduct& p) {
    constexpr std::int64_t kEnough = 8;  // chunks, for the threads to share
    rows = std::min(kDenseRows, round_up(p.rows, kLanes));
    row_blocks = ceil_div(p.rows, rows);
    const std::int64_t shared = ceil_div(p.columns * row_blocks, kEnough);
    columns = std::clamp(round_up(shared, kDensePanel), 2 * kDensePanel, kDenseColumns);
    column_blocks = ceil_div(p.columns, columns);
    const std::int64_t chunks = row_blocks * column_blocks;
    splits = std::clamp<std::int64_t>(p.depth / (2 * kDenseDepth), 1, ceil_div(kEnough, chunks));
    depth = round_up(ceil_div(p.depth, splits), kLanes);
    splits = ceil_div(p.depth, depth);
  }
  std::int64_t partial_floats(const DenseProduct& p) const { return splits > 1 ? splits * p.rows * p.columns : 0; }
};

// One chunk of C, or of its partial sums where the depth is split.
inline void multiply_chunk(const DenseProduct& p, const DensePlan& plan, std::int64_t chunk, float* partials,
                           float* scratch) {
  const std::int64_t split = chunk % plan.splits, block = chunk / plan.splits;
  const std::int64_t row = block / plan.column_blocks * plan.rows, column = block % plan.column_blocks * plan.columns;
  const std::int64_t rows = std::min(plan.rows, p.rows - row), columns = std::min(plan.columns, p.columns - column);
  const std::int64_t end = std::min(p.depth, (split + 1) * plan.depth);
  float* const columns_packed = scratch + kDenseRows * kDenseDepth;
  float* const edge = columns_packed + kDenseColumns * kDenseDepth;
  const std::int64_t target_row = partials == nullptr ? p.c_row : p.columns;
  float* const target = (partials == nullptr ? p.c : partials + split * p.rows * p.columns) + row * target_row + column;
  for (std::int64_t first = split * plan.depth; first < end; first += kDenseDepth) {
    const std::int64_t depth = std::min(kDenseDepth, end - first);
    pack_rows(p.a + row * p.a_row + first * p.a_depth, p.a_row, p.a_depth, depth, rows, scratch);
    pack_columns(p.b + first * p.b_depth + column * p.b_column, p.b_depth, p.b_column, depth, columns, columns_packed);
    const bool accumulate = first > split * plan.depth || (p.accumulate && partials == nullptr);
    multiply_packed(scratch, columns_packed, rows, columns, depth, accumulate, target, target_row, edge);
  }
  if (partials == nullptr && (p.bias != nullptr || p.relu)) finish_block(p, row, rows, column, columns);
}

// C = [C +] the sum of the partial products (splits, rows, columns).
inline bool merge_splits(const DenseProduct& p, const DensePlan& plan, const float* partials, int threads) {
  return parallel_chunks(p.rows, threads, 0, [&](std::int64_t row, float*) {
    float* const target = p.c + row * p.c_row;
    if (!p.accumulate) std::copy_n(partials + row * p.columns, p.columns, target);
    for (std::int64_t split = p.accumulate ? 0 : 1; split < plan.splits; ++split)
      for (std::int64_t j = 0; j < p.columns; ++j) target[j] += partials[(split * p.rows + row) * p.columns + j];
    finish_block(p, row, 1, 0, p.columns);
  });
}

// Uses the thread's workspace where the depth is split. Returns false when out of memory, having written nothing of
// use.
inline bool multiply(const DenseProduct& p, int threads) {
  const DensePlan plan(p);
  float* partials = nullptr;
  if (plan.splits > 1) {
    partials = skelkern::thread_scratch(skelkern::Slot::workspace, static_cast<std::size_t>(plan.partial_floats(p)));
    if (partials == nullptr) return false;
  }
  const std::int64_t scratch = (kDenseRows + kDenseColumns) * kDenseDepth + kLanes * kDensePanel;
  const bool done =
      parallel_chunks(plan.row_blocks * plan.column_blocks * plan.splits, threads, static_cast<std::size_t>(scratch),
                      [&](std::int64_t chunk, float* memory) { multiply_chunk(p, plan, chunk, partials, memory); });
  return done && (partials == nullptr || merge_splits(p, plan, partials, threads));
}

}  // namespace
