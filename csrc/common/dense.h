// Dense products of any size. Blocks of both operands are packed into the order in which the register tiles read them,
// so that a transposed operand costs nothing. Chunks are rows or columns of the result, whichever are more: each packs
// its part of one operand, and the other is packed once for all of them, so that nothing is packed twice.
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

// What a chunk packs of its own operand, at most, which stays in L2: rows of A or columns of B, of a block of the
// depth.
constexpr std::int64_t kDenseRows = 256;
constexpr std::int64_t kDenseColumns = 384;
constexpr std::int64_t kDenseDepth = 512;
constexpr std::int64_t kDensePanel = kTileVecs * kLanes;  // columns of a panel of B: one register tile

// Depth that is copied at once where it is the longer stride, so that the copy stays within a few pages of memory.
constexpr std::int64_t kDenseStrip = 16;

// [begin, end) of the depth of `width` contiguous floats at each, into a panel (depth, size).
inline void copy_strip(const float* source, std::int64_t stride, std::int64_t begin, std::int64_t end,
                       std::int64_t width, float* panel, std::int64_t size) {
  for (std::int64_t k = begin; k < end; ++k)
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const int lanes = lanes_left(width, j);
      store_part(panel + k * size + j, load_part(source + k * stride + j, lanes), lanes);
    }
}

// An operand of `count` rows or columns, `stride` apart, and of a depth, `depth_stride` apart, as panels of `size` rows
// or columns: (count / size, depth, size). What is beyond the last is 0.
inline void pack(const float* source, std::int64_t stride, std::int64_t depth_stride, std::int64_t depth,
                 std::int64_t count, std::int64_t size, float* panels) {
  const std::int64_t rest = count % size;
  if (rest > 0) std::fill_n(panels + (count - rest) * depth, size * depth, 0.0f);
  if (stride != 1) {
    for (std::int64_t at = 0; at < count; at += size)
      transpose(source + at * stride, stride, std::min(size, count - at), depth, panels + at * depth, size);
    return;
  }
  for (std::int64_t begin = 0; begin < depth; begin += kDenseStrip)
    for (std::int64_t at = 0; at < count; at += size)
      copy_strip(source + at, depth_stride, begin, std::min(depth, begin + kDenseStrip), std::min(size, count - at),
                 panels + at * depth, size);
}

// Columns [0, columns) and depth [0, depth) of b.
inline void pack_columns(const float* b, std::int64_t b_depth, std::int64_t b_column, std::int64_t depth,
                         std::int64_t columns, float* panels) {
  pack(b, b_column, b_depth, depth, columns, kDensePanel, panels);
}

// Rows [0, rows) and depth [0, depth) of a.
inline void pack_rows(const float* a, std::int64_t a_row, std::int64_t a_depth, std::int64_t depth, std::int64_t rows,
                      float* panels) {
  pack(a, a_row, a_depth, depth, rows, kLanes, panels);
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
  static constexpr std::int64_t kEnough = 8;        // chunks, for the threads to share
  static constexpr std::int64_t kShared = 4 << 20;  // floats of the shared operand that are packed at once
  static constexpr std::int64_t kGroup = 96;        // rows or columns of it that a chunk packs: whole panels

  bool by_rows;                // chunks are rows of C, else columns
  std::int64_t size, chunks;   // rows or columns of a chunk
  std::int64_t shared;         // columns or rows, the padding of panels included, of the operand that all chunks read
  std::int64_t shared_depth;   // of it, packed at once
  std::int64_t splits, depth;  // of a small C: parts of the depth, summed in order; depth of one

  explicit DensePlan(const DenseProduct& p) : by_rows(p.rows >= p.columns) {
    const std::int64_t part = ceil_div(by_rows ? p.rows : p.columns, kEnough);
    size = by_rows ? std::clamp<std::int64_t>(round_up(part, kLanes), 32, kDenseRows)
                   : std::clamp(round_up(part, kDensePanel), kDensePanel, kDenseColumns);
    chunks = ceil_div(by_rows ? p.rows : p.columns, size);
    shared = by_rows ? round_up(p.columns, kDensePanel) : round_up(p.rows, kLanes);
    shared_depth = std::max<std::int64_t>(1, kShared / (shared * kDenseDepth)) * kDenseDepth;
    const bool small = p.rows <= kDenseRows && p.columns <= kDenseColumns;
    splits = small ? std::clamp<std::int64_t>(p.depth / (2 * kDenseDepth), 1, kEnough) : 1;
    depth = round_up(ceil_div(p.depth, splits), kLanes);
    splits = ceil_div(p.depth, depth);
  }
};

// A block of C, [+]= packed rows times packed columns, of any number of either.
inline void multiply_block(const float* rows_packed, const float* columns_packed, std::int64_t rows,
                           std::int64_t columns, std::int64_t depth, bool accumulate, float* target,
                           std::int64_t target_row, float* edge) {
  for (std::int64_t row = 0; row < rows; row += kDenseRows)
    multiply_packed(rows_packed + row * depth, columns_packed, std::min(kDenseRows, rows - row), columns, depth,
                    accumulate, target + row * target_row, target_row, edge);
}

constexpr std::int64_t kDenseScratch = (kDenseRows + kDenseColumns) * kDenseDepth + kLanes * kDensePanel;

// One part of the depth of a small C, into its partial sums (rows, columns).
inline void multiply_split(const DenseProduct& p, const DensePlan& plan, std::int64_t split, float* partial,
                           float* scratch) {
  const std::int64_t begin = split * plan.depth, end = std::min(p.depth, begin + plan.depth);
  float* const columns_packed = scratch + kDenseRows * kDenseDepth;
  float* const edge = columns_packed + kDenseColumns * kDenseDepth;
  for (std::int64_t first = begin; first < end; first += kDenseDepth) {
    const std::int64_t depth = std::min(kDenseDepth, end - first);
    pack_rows(p.a + first * p.a_depth, p.a_row, p.a_depth, depth, p.rows, scratch);
    pack_columns(p.b + first * p.b_depth, p.b_depth, p.b_column, depth, p.columns, columns_packed);
    multiply_packed(scratch, columns_packed, p.rows, p.columns, depth, first > begin, partial, p.columns, edge);
  }
}

// The depth [first, end) of the operand that all chunks read: block by block of kDenseDepth, (block, shared).
inline bool pack_shared(const DenseProduct& p, const DensePlan& plan, std::int64_t first, std::int64_t end, int threads,
                        float* packed) {
  const std::int64_t groups = ceil_div(plan.shared, DensePlan::kGroup), blocks = ceil_div(end - first, kDenseDepth);
  return parallel_chunks(groups * blocks, threads, 0, [&](std::int64_t chunk, float*) {
    const std::int64_t begin = chunk % groups * DensePlan::kGroup, at = first + chunk / groups * kDenseDepth;
    const std::int64_t depth = std::min(kDenseDepth, end - at);
    float* const target = packed + (at - first) * plan.shared + begin * depth;
    if (plan.by_rows)
      pack_columns(p.b + at * p.b_depth + begin * p.b_column, p.b_depth, p.b_column, depth,
                   std::min(DensePlan::kGroup, p.columns - begin), target);
    else
      pack_rows(p.a + at * p.a_depth + begin * p.a_row, p.a_row, p.a_depth, depth,
                std::min(DensePlan::kGroup, p.rows - begin), target);
  });
}

// What the depth [first, end) adds to one chunk of C.
inline void multiply_chunk(const DenseProduct& p, const DensePlan& plan, std::int64_t chunk, std::int64_t first,
                           std::int64_t end, const float* packed, float* scratch) {
  const std::int64_t row = plan.by_rows ? chunk * plan.size : 0, column = plan.by_rows ? 0 : chunk * plan.size;
  const std::int64_t rows = plan.by_rows ? std::min(plan.size, p.rows - row) : p.rows;
  const std::int64_t columns = plan.by_rows ? p.columns : std::min(plan.size, p.columns - column);
  float* const target = p.c + row * p.c_row + column;
  float* const edge = scratch + kDenseColumns * kDenseDepth;
  for (std::int64_t at = first; at < end; at += kDenseDepth) {
    const std::int64_t depth = std::min(kDenseDepth, end - at);
    const float* const shared = packed + (at - first) * plan.shared;
    if (plan.by_rows)
      pack_rows(p.a + row * p.a_row + at * p.a_depth, p.a_row, p.a_depth, depth, rows, scratch);
    else
      pack_columns(p.b + at * p.b_depth + column * p.b_column, p.b_depth, p.b_column, depth, columns, scratch);
    multiply_block(plan.by_rows ? scratch : shared, plan.by_rows ? shared : scratch, rows, columns, depth,
                   p.accumulate || at > 0, target, p.c_row, edge);
  }
  if (end == p.depth && (p.bias != nullptr || p.relu)) finish_block(p, row, rows, column, columns);
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

// Uses the thread's workspace. Returns false when out of memory, having written nothing of use.
inline bool multiply(const DenseProduct& p, int threads) {
  const DensePlan plan(p);
  const std::int64_t partials = plan.splits > 1 ? plan.splits * p.rows * p.columns : 0;
  const std::int64_t packed = plan.shared * std::min(plan.shared_depth, p.depth);
  float* const workspace =
      skelkern::thread_scratch(skelkern::Slot::workspace, static_cast<std::size_t>(partials > 0 ? partials : packed));
  if (workspace == nullptr) return false;
  const auto scratch = static_cast<std::size_t>(kDenseScratch);
  if (partials > 0)
    return parallel_chunks(plan.splits, threads, scratch,
                           [&](std::int64_t split, float* memory) {
                             multiply_split(p, plan, split, workspace + split * p.rows * p.columns, memory);
                           }) &&
           merge_splits(p, plan, workspace, threads);
  for (std::int64_t first = 0; first < p.depth; first += plan.shared_depth) {
    const std::int64_t end = std::min(p.depth, first + plan.shared_depth);
    if (!pack_shared(p, plan, first, end, threads, workspace) ||
        !parallel_chunks(plan.chunks, threads, scratch, [&](std::int64_t chunk, float* memory) {
          multiply_chunk(p, plan, chunk, first, end, workspace, memory);
        }))
      return false;
  }
  return true;
}

}  // namespace
