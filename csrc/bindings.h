// What the bindings of the CPU's and the GPU's kernels share: contracts made of addresses and sizes.
#pragma once

#include <array>
#include <cstdint>

#include "chamfer/chamfer.h"
#include "edge_conv/edge_conv.h"
#include "sample_clips/sample_clips.h"

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// arrays: (points of either side, masks of either side, weights); sizes: (b, n of either side, d)
inline skelkern::ChamferProblem chamfer_problem(const std::array<std::uintptr_t, 5>& arrays,
                                                const std::array<std::int64_t, 4>& sizes, bool squared, int threads) {
  const auto [b, n, m, d] = sizes;
  return {{pointer<const float>(arrays[0]), pointer<const float>(arrays[1])},
          {pointer<const bool>(arrays[2]), pointer<const bool>(arrays[3])},
          pointer<const float>(arrays[4]),
          b,
          {n, m},
          d,
          squared,
          threads};
}

// nearest: (distances of either side, indices of either side)
inline skelkern::ChamferNearest chamfer_nearest(const std::array<std::uintptr_t, 4>& nearest) {
  return {{pointer<float>(nearest[0]), pointer<float>(nearest[1])},
          {pointer<std::int32_t>(nearest[2]), pointer<std::int32_t>(nearest[3])}};
}

// arrays: (x, neighbors, weight, gamma, mask); sizes: (b, n, k, c, c_out)
inline skelkern::EdgeConvProblem edge_conv_problem(const std::array<std::uintptr_t, 5>& arrays,
                                                   const std::array<std::int64_t, 5>& sizes, int threads) {
  const auto [b, n, k, c, c_out] = sizes;
  return {pointer<const float>(arrays[0]),
          pointer<const std::int64_t>(arrays[1]),
          pointer<const float>(arrays[2]),
          pointer<const float>(arrays[3]),
          pointer<const bool>(arrays[4]),
          b,
          n,
          k,
          c,
          c_out,
          threads};
}

// tail: (mean, inverse_std, beta)
inline skelkern::EdgeConvTail edge_conv_tail(const std::array<std::uintptr_t, 3>& tail, float negative_slope) {
  return {pointer<const float>(tail[0]), pointer<const float>(tail[1]), pointer<const float>(tail[2]), negative_slope};
}

// edges: (extremes, slots, sums)
inline skelkern::EdgeConvEdges edge_conv_edges(const std::array<std::uintptr_t, 3>& edges) {
  return {pointer<float>(edges[0]), pointer<std::uint8_t>(edges[1]), pointer<float>(edges[2])};
}

// arrays: (frames, offsets, index, times, linear, linear_joints, translation, joint_order, joint_keep)
// sizes: (total, persons, joints, channels, samples, views, length)
inline skelkern::SampleClipsProblem sample_clips_problem(const std::array<std::uintptr_t, 9>& arrays,
                                                         bool frames_are_bfloat16,
                                                         const std::array<std::int64_t, 7>& sizes, int threads) {
  const auto [total, persons, joints, channels, samples, views, length] = sizes;
  return {pointer<const void>(arrays[0]),
          frames_are_bfloat16,
          pointer<const std::int64_t>(arrays[1]),
          pointer<const std::int64_t>(arrays[2]),
          pointer<const float>(arrays[3]),
          pointer<const float>(arrays[4]),
          pointer<const bool>(arrays[5]),
          pointer<const float>(arrays[6]),
          pointer<const std::int64_t>(arrays[7]),
          pointer<const bool>(arrays[8]),
          total,
          persons,
          joints,
          channels,
          samples,
          views,
          length,
          threads};
}
