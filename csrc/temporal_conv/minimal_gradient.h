// The gradient by the weights of a convolution along time by minimal filtering: products of the points of frames and of
// results, summed over all tiles, of which every three taps are made at the end.
#pragma once

#include "temporal_conv/minimal_conv.h"

namespace {

// How it is cut: tasks of several blocks each have their own sums.
struct MinimalGradientPlan {
  static constexpr std::int64_t kPartialFloats = 6 * 1024 * 1024;  // of all tasks' sums together
  static constexpr std::int64_t kMostTasks = 16;
  MinimalPlan blocks;
  std::int64_t ld_rows;      // of the points of a channel, or of a row of results
  std::int64_t ld_channels;  // of the points of a frame's joint
  std::int64_t columns;      // tiles of frames times joints, whole vectors
  std::int64_t sums;         // floats of a task: (kPoints, groups, rows, ld_channels), then (rows) of the bias
  std::int64_t blocks_per_task, tasks;

  explicit MinimalGradientPlan(const Correlation& p)
      : blocks(p),
        ld_rows(blocks.ld),
        ld_channels(padded(p.c)),
        columns(round_up((blocks.tiles.size + p.groups() - 1) * p.v, kLanes)),
        sums(kPoints * p.groups() * p.rows * ld_channels + round_up(p.rows, 16)) {
    const std::int64_t all = p.n * blocks.tiles.count;
    blocks_per_task = ceil_div(all, std::clamp<std::int64_t>(kPartialFloats / sums, 2, kMostTasks));
    tasks = ceil_div(all, blocks_per_task);
  }
  std::int64_t frame_floats(const Correlation& p) const { return row_floats(blocks.frames(p, blocks.tiles.size), p.v); }
  // a channel's frames, points of kLanes channels, points of all channels by frame, points of results
  std::int64_t scratch_floats(const Correlation& p) const {
    return frame_floats(p) + kPoints * (kLanes * ld_rows + columns * ld_channels + p.rows * ld_rows);
  }
};

// Points of a block's frames by joint and channel, (kPoints, columns, ld_channels); rows: memory for those of kLanes
// channels.
inline void gather_columns(const Correlation& p, const MinimalGradientPlan& plan, std::int64_t sample,
                           std::int64_t first, std::int64_t length, float* frames, float* rows, float* columns) {
  const FrameRange range{p.first_read(first), 1, plan.blocks.frames(p, length)};
  const std::int64_t tiles = length + p.groups() - 1;
  for (std::int64_t channel = 0; channel < p.c; channel += kLanes) {
    const std::int64_t count = lanes_left(p.c, channel);
    for (std::int64_t i = 0; i < count; ++i) {
      copy_frames(p.x + (sample * p.c + channel + i) * p.t * p.v, channel + i, p.t, p.v, range, p.map, frames);
      frames_to_points(frames, tiles, p.v, rows + i * plan.ld_rows, kLanes * plan.ld_rows);
    }
    for (std::int64_t point = 0; point < kPoints; ++point)
      transpose(rows + point * kLanes * plan.ld_rows, plan.ld_rows, count, tiles * p.v,
                columns + point * plan.columns * plan.ld_channels + channel, plan.ld_channels);
  }
}

// Points of a block's gradients of results, (kPoints, rows, ld_rows), and the sums of those results to `of_bias`.
inline void gather_results(const Correlation& p, const MinimalGradientPlan& plan, const float* y_gradient,
                           std::int64_t sample, std::int64_t first, std::int64_t length, float* frames, float* points,
                           float* of_bias) {
  const FrameRange range{p.first_result(first), 1, kTile * length};
  for (std::int64_t row = 0; row < p.rows; ++row) {
    const float* const own = y_gradient + (sample * p.rows + row) * p.frames * p.v;
    copy_frames(own, row, p.frames, p.v, range, {}, frames);
    of_bias[row] += row_sum(frames, kTile * length * p.v);
    results_to_points(frames, length, p.v, points + row * plan.ld_rows, p.rows * plan.ld_rows);
  }
}

// Adds one block to a task's sums.
inline void add_points(const Correlation& p, const MinimalGradientPlan& plan, std::int64_t first, std::int64_t length,
                       const float* columns, const float* points, float* sums) {
  for (std::int64_t point = 0; point < kPoints; ++point)
    for (std::int64_t group = 0; group < p.groups(); ++group) {
      std::int64_t begin = first, end = first + length;
      p.tiles_of_group(group, begin, end);
      if (begin >= end) continue;
      const std::int64_t skipped = (begin - first) * p.v;
      const float* const a = points + point * p.rows * plan.ld_rows + skipped;
      const float* const b = columns + (point * plan.columns + skipped + group * p.v) * plan.ld_channels;
      float* const c = sums + (point * p.groups() + group) * p.rows * plan.ld_channels;
      for (std::int64_t column = 0; column < p.c; column += kPanel)  // of b, which stays in L1
        product(
            {a, plan.ld_rows, 1, b + column, plan.ld_channels, c + column, plan.ld_channels, (end - begin) * p.v, true},
            p.rows, round_up(std::min(kPanel, p.c - column), kLanes));
    }
}

// weight (rows, c, kernel) of one row; partials (tasks, sums).
inline void finish_weights(const Correlation& p, const MinimalGradientPlan& plan, const float* partials,
                           std::int64_t row, float* weight) {
  const std::int64_t plane = p.groups() * p.rows * plan.ld_channels;
  for (std::int64_t group = 0; group < p.groups(); ++group)
    for (std::int64_t channel = 0; channel < p.c; ++channel) {
      const float* const own = partials + (group * p.rows + row) * plan.ld_channels + channel;
      float points[kPoints] = {}, taps[kTile];
      for (std::int64_t task = 0; task < plan.tasks; ++task)
        for (std::int64_t point = 0; point < kPoints; ++point) points[point] += own[task * plan.sums + point * plane];
      points_to_taps(points, taps);
      for (std::int64_t i = 0; i < std::min(kTile, p.kernel - kTile * group); ++i)
        weight[(row * p.c + channel) * p.kernel + kTile * group + i] = taps[i];
    }
}

// Gradients of the weights (rows, c, kernel) and the bias (rows), each optional, from that of y.
inline bool differentiate_weight_minimally(const Correlation& p, const float* y_gradient, float* weight, float* bias) {
  const MinimalGradientPlan plan(p);
  float* const partials =
      skelkern::thread_scratch(skelkern::Slot::workspace, static_cast<std::size_t>(plan.tasks * plan.sums));
  if (partials == nullptr) return false;
  const std::int64_t of_bias = plan.sums - round_up(p.rows, 16), all = p.n * plan.blocks.tiles.count;
  const auto floats = static_cast<std::size_t>(plan.scratch_floats(p));
  const bool done = parallel_chunks(plan.tasks, p.threads, floats, [&](std::int64_t task, float* frames) {
    float* const sums = partials + task * plan.sums;
    float* const rows = frames + plan.frame_floats(p);
    float* const columns = rows + kPoints * kLanes * plan.ld_rows;
    float* const points = columns + kPoints * plan.columns * plan.ld_channels;
    std::fill_n(sums, plan.sums, 0.0f);
    for (std::int64_t i = task * plan.blocks_per_task; i < std::min(all, (task + 1) * plan.blocks_per_task); ++i) {
      const std::int64_t sample = i / plan.blocks.tiles.count, block = i % plan.blocks.tiles.count;
      const std::int64_t first = plan.blocks.tiles.first(block), length = plan.blocks.tiles.length(block);
      gather_columns(p, plan, sample, first, length, frames, rows, columns);
      gather_results(p, plan, y_gradient, sample, first, length, frames, points, sums + of_bias);
      add_points(p, plan, first, length, columns, points, sums);
    }
  });
  return done && parallel_chunks(p.rows, p.threads, 0, [&](std::int64_t row, float*) {
           if (weight != nullptr) finish_weights(p, plan, partials, row, weight);
           for (std::int64_t task = 0; bias != nullptr && task < plan.tasks; ++task)
             bias[row] = (task == 0 ? 0.0f : bias[row]) + partials[task * plan.sums + of_bias + row];
         });
}

}  // namespace
