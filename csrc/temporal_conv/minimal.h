// Minimal filtering (Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, CVPR 2016): three results
// of three taps, r_i = sum_k w_k x_(i + k), by five multiplications instead of nine. Both sides are polynomials that
// are evaluated at 0, 1/2, -1, 2 and infinity; the divisors of the interpolation are put on the taps, so that all
// factors of frames and results are exact. Of these points the rounding errors are among the smallest, about twice
// those of nine multiplications.
#pragma once

#include "common/simd.h"

namespace {

constexpr std::int64_t kTile = 3;    // results of a tile, and taps of a group
constexpr std::int64_t kPoints = 5;  // multiplications of a tile by a group; frames that they need

// The values of three taps at the points.
inline void taps_to_points(const float* taps, float* points) {
  const float even = taps[0] + taps[2];
  points[0] = taps[0];
  points[1] = -(taps[0] + 0.5f * taps[1] + 0.25f * taps[2]) / 1.125f;
  points[2] = (taps[1] - even) / 4.5f;
  points[3] = (taps[0] + 2.0f * taps[1] + 4.0f * taps[2]) / 9.0f;
  points[4] = taps[2];
}

// The transposed map: gradients of three taps from those of the points.
inline void points_to_taps(const float* points, float* taps) {
  const float half = -points[1] / 1.125f, minus_one = -points[2] / 4.5f, two = points[3] / 9.0f;
  taps[0] = points[0] + half + minus_one + two;
  taps[1] = 0.5f * half - minus_one + 2.0f * two;
  taps[2] = 0.25f * half + minus_one + 4.0f * two + points[4];
}

// Frames (kTile * (tiles - 1) + kPoints, v) -> (kPoints; tiles, v), planes `stride` apart. Whole vectors are read and
// written: behind the last frame and the last tile there must be room for one.
inline void frames_to_points(const float* frames, std::int64_t tiles, std::int64_t v, float* points,
                             std::int64_t stride) {
  for (std::int64_t tile = 0; tile < tiles; ++tile, frames += kTile * v, points += v)
    for (std::int64_t j = 0; j < v; j += kLanes) {
      const Vec x0 = load(frames + j), x1 = load(frames + v + j), x2 = load(frames + 2 * v + j);
      const Vec x3 = load(frames + 3 * v + j), x4 = load(frames + 4 * v + j);
      store(points + j, x0 + x3 - 1.5f * (x1 + x2));
      store(points + stride + j, x3 - x2 - 2.0f * x1);
      store(points + 2 * stride + j, x3 + x1 - 2.5f * x2);
      store(points + 3 * stride + j, x3 + 0.5f * (x2 - x1));
      store(points + 4 * stride + j, x4 + x1 - 1.5f * (x2 + x3));
    }
}

// Results (kTile * tiles, v) -> (kPoints; tiles, v) by the transpose of `points_to_results`; room as above.
inline void results_to_points(const float* results, std::int64_t tiles, std::int64_t v, float* points,
                              std::int64_t stride) {
  for (std::int64_t tile = 0; tile < tiles; ++tile, results += kTile * v, points += v)
    for (std::int64_t j = 0; j < v; j += kLanes) {
      const Vec r0 = load(results + j), r1 = load(results + v + j), r2 = load(results + 2 * v + j);
      store(points + j, r0);
      store(points + stride + j, r0 + 0.5f * r1 + 0.25f * r2);
      store(points + 2 * stride + j, r0 - r1 + r2);
      store(points + 3 * stride + j, r0 + 2.0f * r1 + 4.0f * r2);
      store(points + 4 * stride + j, r2);
    }
}

// Results [begin, end) of a tile, `v` apart, for `count` joints; points: planes `stride` apart, read by whole vectors.
inline void points_to_results(const float* points, std::int64_t stride, std::int64_t count, std::int64_t v,
                              std::int64_t begin, std::int64_t end, float bias, float* results) {
  for (std::int64_t j = 0; j < count; j += kLanes) {
    const int lanes = lanes_left(count, j);
    const Vec p1 = load(points + stride + j), p2 = load(points + 2 * stride + j), p3 = load(points + 3 * stride + j);
    if (begin < 1) store_part(results + j, load(points + j) + p1 + p2 + p3 + bias, lanes);
    if (begin < 2 && end > 1) store_part(results + (1 - begin) * v + j, 0.5f * p1 - p2 + 2.0f * p3 + bias, lanes);
    if (end > 2)
      store_part(results + (2 - begin) * v + j, 0.25f * p1 + p2 + 4.0f * p3 + load(points + 4 * stride + j) + bias,
                 lanes);
  }
}

}  // namespace
