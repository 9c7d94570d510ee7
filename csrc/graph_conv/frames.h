// Frames of a clip (channels, t, v) turned into rows of channels and back. Row joint_row[v] * frames + f of `rows`
// holds the channels of joint v in frame f; its leading dimension is a multiple of kLanes.
#pragma once

#include "common/simd.h"

namespace {

struct FrameRows {
  std::int64_t frames, v, channels;
  const std::int32_t* joint_row;  // (v)
  std::int64_t ld;
  float* rows;

  float* row(std::int64_t joint, std::int64_t frame) const { return rows + (joint_row[joint] * frames + frame) * ld; }
};

SKELKERN_INLINE int at_most_lanes(std::int64_t count) {
  return static_cast<int>(count < kLanes ? count : static_cast<std::int64_t>(kLanes));
}

// clip: first frame of channel 0; channel_stride: floats between channels. Channels are padded with zeros to whole
// vectors.
inline void gather_frames(const float* clip, std::int64_t channel_stride, const FrameRows& target) {
  for (std::int64_t channel = 0; channel < target.channels; channel += kLanes) {
    const int channels = at_most_lanes(target.channels - channel);
    for (std::int64_t frame = 0; frame < target.frames; ++frame) {
      const float* source = clip + channel * channel_stride + frame * target.v;
      for (std::int64_t joint = 0; joint < target.v; joint += kLanes) {
        const int joints = at_most_lanes(target.v - joint);
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          block[i] = i < channels ? load_part(source + i * channel_stride + joint, joints) : Vec{};
        transpose_lanes(block);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          if (i < joints) store(target.row(joint + i, frame) + channel, block[i]);
      }
    }
  }
}

// The inverse of gather_frames.
inline void scatter_frames(const FrameRows& source, float* clip, std::int64_t channel_stride) {
  for (std::int64_t channel = 0; channel < source.channels; channel += kLanes) {
    const int channels = at_most_lanes(source.channels - channel);
    for (std::int64_t frame = 0; frame < source.frames; ++frame) {
      float* target = clip + channel * channel_stride + frame * source.v;
      for (std::int64_t joint = 0; joint < source.v; joint += kLanes) {
        const int joints = at_most_lanes(source.v - joint);
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) block[i] = i < joints ? load(source.row(joint + i, frame) + channel) : Vec{};
        transpose_lanes(block);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          if (i < channels) store_part(target + i * channel_stride + joint, block[i], joints);
      }
    }
  }
}

}  // namespace
