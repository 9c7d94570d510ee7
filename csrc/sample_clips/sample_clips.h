// Clips of equal length out of sequences of any length: frames are interpolated in time, joints reordered, mapped
// linearly, moved and left out, all in one pass over the output.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

// Optional arrays are nullptr when absent. All are contiguous and row-major.
struct SampleClipsProblem {
  const void* frames;  // (total, persons, joints, channels), float32 or bfloat16
  bool frames_are_bfloat16;
  const std::int64_t* offsets;      // (samples + 1): first frame of each sample
  const std::int64_t* index;        // (views): sample of each view
  const float* times;               // (views, length): fractional frame in the sample
  const float* linear;              // optional (views, 3, 3): row vectors are multiplied with it
  const bool* linear_joints;        // optional (views, joints): joints that linear maps, after reordering
  const float* translation;         // optional (views, 3)
  const std::int64_t* joint_order;  // optional (views, joints): joint that each output joint is taken from
  const bool* joint_keep;           // optional (views, joints): joints that are not zero
  std::int64_t total, persons, joints, channels, samples, views, length;
  int threads;
};

enum class SampleClipsResult : int { done = 0, out_of_memory = 1, bad_value = 2 };

struct SampleClips {
  // clips: (views, channels, length, joints, persons). bad_value: an index, offset or joint is out of range, nothing
  // written.
  SampleClipsResult (*run)(const SampleClipsProblem& problem, float* clips);
};

SKELKERN_EVERY_LEVEL(SampleClips, sample_clips)

}  // namespace skelkern
