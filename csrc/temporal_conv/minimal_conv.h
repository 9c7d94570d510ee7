// Convolutions along time with neither stride nor dilation by minimal filtering: the taps in groups of three, the
// results in tiles of three. A group reads tiles whole tiles further on, so that each of the five points is a
// convolution over tiles, with groups as its taps.
#pragma once

#include "common/dense.h"
#include "temporal_conv/frames.h"
#include "temporal_conv/minimal.h"

namespace {

// y[n, r, f, v] = bias[r] + sum_(c, k) weight[r, c, k] x[n, c, f + k - padding, v]. With the kernel turned round and
// rows and channels exchanged it is the gradient by x.
struct Correlation {
  const float* x;  // (n, c, t, v)
  ChannelMap map;
  std::int64_t n, c, t, v;
  const float* weight;                   // of the first tap
  std::int64_t w_row, w_channel, w_tap;  // its strides
  const float* bias;                     // optional (rows)
  std::int64_t rows, frames;             // y (n, rows, frames, v)
  std::int64_t kernel, padding;
  int threads;

  std::int64_t groups() const { return ceil_div(kernel, kTile); }
  std::int64_t depth() const { return groups() * c; }
  std::int64_t tiles() const { return ceil_div(frames, kTile); }
  // Of results that are too many one lies before the first frame: both ends then have tiles that read padding only.
  std::int64_t first_result(std::int64_t tile) const { return kTile * tile - (kTile * tiles() - frames) / 2; }
  std::int64_t first_read(std::int64_t tile) const { return first_result(tile) - padding; }

  // Leaves of the tiles [begin, end) those of which group `group` reads any frame.
  void tiles_of_group(std::int64_t group, std::int64_t& begin, std::int64_t& end) const {
    while (begin < end && first_read(begin + group) + kPoints <= 0) ++begin;
    while (begin < end && first_read(end - 1 + group) >= t) --end;
  }
  // Frames [begin, end) of y among the results of `length` tiles from `first` on.
  void results_of(std::int64_t first, std::int64_t length, std::int64_t& begin, std::int64_t& end) const {
    begin = std::max<std::int64_t>(0, first_result(first));
    end = std::min(frames, first_result(first + length));
  }
  float tap(std::int64_t row, std::int64_t channel, std::int64_t number) const {
    return number < kernel ? weight[row * w_row + channel * w_channel + number * w_tap] : 0.0f;
  }
};

// How a correlation is cut.
struct MinimalPlan {
  static constexpr std::int64_t kBlockFloats = 224 * 1024;  // points of a block's frames stay in L2
  Blocks tiles;                                             // of results
  std::int64_t ld;                                          // of the points of a channel
  std::int64_t plane;                                       // packed weights of a point

  explicit MinimalPlan(const Correlation& p)
      : tiles(p.tiles(), kBlockFloats / (kPoints * p.c * p.v) - p.groups() + 1),
        ld(row_floats(tiles.size + p.groups() - 1, p.v)),
        plane(round_up(p.rows, kLanes) * p.depth()) {}

  // packed weights (kPoints, plane), offsets (depth)
  std::int64_t packed_floats(const Correlation& p) const { return kPoints * plane + round_up(p.depth(), 16); }
  std::int64_t frames(const Correlation& p, std::int64_t length) const {
    return kTile * (length + p.groups() - 2) + kPoints;
  }
  // frames of a channel, points of all, a panel of products
  std::int64_t scratch_floats(const Correlation& p) const {
    return row_floats(frames(p, tiles.size), p.v) + kPoints * (p.c * ld + p.rows * kPanel) + kLanes;
  }
};

// The points of kLanes rows of weights from `row` on, in the order of `pack_rows`, by group and channel.
inline void pack_points(const Correlation& p, const MinimalPlan& plan, std::int64_t row, float* packed) {
  float* target = packed + row * p.depth();
  for (std::int64_t group = 0; group < p.groups(); ++group)
    for (std::int64_t channel = 0; channel < p.c; ++channel, target += kLanes)
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        const std::int64_t from = std::min(row + lane, p.rows - 1), first = kTile * group;
        const float taps[] = {p.tap(from, channel, first), p.tap(from, channel, first + 1),
                              p.tap(from, channel, first + 2)};
        float points[kPoints];
        taps_to_points(taps, points);
        for (std::int64_t point = 0; point < kPoints; ++point) target[point * plan.plane + lane] = points[point];
      }
}

// Points of the frames behind `length` tiles of results from `first` on: (kPoints, c, ld). frames: memory for a
// channel.
inline void gather_points(const Correlation& p, const MinimalPlan& plan, std::int64_t sample, std::int64_t first,
                          std::int64_t length, float* frames, float* points) {
  const FrameRange range{p.first_read(first), 1, plan.frames(p, length)};
  for (std::int64_t channel = 0; channel < p.c; ++channel) {
    copy_frames(p.x + (sample * p.c + channel) * p.t * p.v, channel, p.t, p.v, range, p.map, frames);
    frames_to_points(frames, length + p.groups() - 1, p.v, points + channel * plan.ld, p.c * plan.ld);
  }
}

// Columns [column, column + width) of the tiles from `first` on, to a sample's y (rows, frames, v). products: (kPoints,
// rows, kPanel).
inline void finish_panel(const Correlation& p, const float* products, std::int64_t first, std::int64_t column,
                         std::int64_t width, float* y) {
  for (std::int64_t at = 0, count = 0; at < width; at += count) {
    const std::int64_t tile = first + (column + at) / p.v, joint = (column + at) % p.v;
    count = std::min(width - at, p.v - joint);
    std::int64_t begin, end;
    p.results_of(tile, 1, begin, end);
    const std::int64_t frame = p.first_result(tile);
    for (std::int64_t row = 0; row < p.rows; ++row)
      points_to_results(products + row * kPanel + at, p.rows * kPanel, count, p.v, begin - frame, end - frame,
                        p.bias == nullptr ? 0.0f : p.bias[row], y + (row * p.frames + begin) * p.v + joint);
  }
}

// Groups [first, end) that read any frame for the tiles of results [begin, begin + count).
struct Groups {
  std::int64_t first = 0, end = 0;

  Groups(const Correlation& p, std::int64_t begin, std::int64_t count) {
    for (std::int64_t group = 0; group < p.groups(); ++group) {
      std::int64_t from = begin, to = begin + count;
      p.tiles_of_group(group, from, to);
      if (from >= to) continue;
      if (end == 0) first = group;
      end = group + 1;
    }
  }
};

// One panel of a point, (rows, columns; kPanel), by parts of the depth: results are differences of points, whose
// rounding errors must stay small, and a part of the frames' points stays in L1.
inline void multiply_point(const Correlation& p, const Groups& groups, const float* packed, const std::int32_t* offsets,
                           const float* points, std::int64_t columns, float* products) {
  constexpr std::int64_t kPart = 128;
  const std::int64_t begin = groups.first * p.c, end = groups.end * p.c;
  std::int64_t from = begin;
  do {
    const std::int64_t depth = std::min(kPart, end - from);
    for (std::int64_t row = 0; row < p.rows; row += kLanes)
      gathered_product({packed + row * p.depth() + from * kLanes, 1, kLanes, points, 0, products + row * kPanel, kPanel,
                        depth, from > begin, offsets + from, true},
                       lanes_left(p.rows, row), columns);
    from += depth;
  } while (from < end);
}

// The results of `length` tiles from `first` on to a sample's y; points by `gather_points`, products as above.
inline void multiply_points(const Correlation& p, const MinimalPlan& plan, const float* packed,
                            const std::int32_t* offsets, const float* points, std::int64_t first, std::int64_t length,
                            float* products, float* y) {
  for (std::int64_t column = 0; column < length * p.v; column += kPanel) {
    const std::int64_t width = std::min(kPanel, length * p.v - column), tile = column / p.v;
    const Groups groups(p, first + tile, (column + width - 1) / p.v + 1 - tile);
    for (std::int64_t point = 0; point < kPoints; ++point)
      multiply_point(p, groups, packed + point * plan.plane, offsets, points + point * p.c * plan.ld + column,
                     round_up(width, kLanes), products + point * p.rows * kPanel);
    finish_panel(p, products, first, column, width, y);
  }
}

// y (n, rows, frames, v); then done(sample, block, the block's first frame, its frames).
template <class Done>
inline bool correlate_minimally(const Correlation& p, const MinimalPlan& plan, float* workspace, float* y,
                                const Done& done) {
  float* const packed = workspace;
  auto* const offsets = reinterpret_cast<std::int32_t*>(workspace + kPoints * plan.plane);
  for (std::int64_t k = 0; k < p.depth(); ++k)
    offsets[k] = static_cast<std::int32_t>(k % p.c * plan.ld + k / p.c * p.v);
  const bool packing = parallel_chunks(ceil_div(p.rows, kLanes), p.threads, 0, [&](std::int64_t block, float*) {
    pack_points(p, plan, block * kLanes, packed);
  });
  const auto floats = static_cast<std::size_t>(plan.scratch_floats(p));
  return packing && parallel_chunks(p.n * plan.tiles.count, p.threads, floats, [&](std::int64_t chunk, float* memory) {
           const std::int64_t sample = chunk / plan.tiles.count, block = chunk % plan.tiles.count;
           const std::int64_t first = plan.tiles.first(block), length = plan.tiles.length(block);
           float* const points = memory + row_floats(plan.frames(p, plan.tiles.size), p.v);
           gather_points(p, plan, sample, first, length, memory, points);
           float* const own = y + sample * p.rows * p.frames * p.v;
           multiply_points(p, plan, packed, offsets, points, first, length, points + kPoints * p.c * plan.ld, own);
           std::int64_t begin, end;
           p.results_of(first, length, begin, end);
           done(chunk, own + begin * p.v, end - begin);
         });
}

}  // namespace
