// What the bindings of the CPU's and the GPU's kernels share: contracts made of addresses and sizes.
#pragma once

#include <array>
#include <cstdint>

#include "chamfer/chamfer.h"
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
