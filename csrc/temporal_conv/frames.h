// Frames of a clip laid out so that a tap of a strided convolution reads them one after the other.
#pragma once

#include <algorithm>

#include "common/simd.h"

namespace {

constexpr std::int64_t kPanel = 48;  // columns of a product at a time: whole register tiles at every level

// `frames` consecutive frames, or tiles of them, cut into blocks of which none is larger than `most`.
struct Blocks {
  std::int64_t frames, size, count;

  Blocks(std::int64_t frames, std::int64_t most) : frames(frames) {
    count = ceil_div(frames, std::max<std::int64_t>(1, most));
    size = ceil_div(frames, count);
    count = ceil_div(frames, size);
  }
  std::int64_t first(std::int64_t block) const { return block * size; }
  std::int64_t length(std::int64_t block) const { return std::min(size, frames - first(block)); }
};

// A vector that begins in the last row of frames may end beyond it.
inline std::int64_t row_floats(std::int64_t frames, std::int64_t v) { return padded(frames * v + kLanes); }

// `count` frames of a clip: first, first + step, ...; those outside of it are 0.
struct FrameRange {
  std::int64_t first, step, count;
};

// What is done to a channel's values on the way: nothing, or relu((x - mean) scale + shift).
struct ChannelMap {
  const float *mean, *scale, *shift;  // by channel, or nullptr

  SKELKERN_INLINE void copy(const float* source, std::int64_t channel, std::int64_t count, float* target) const {
    if (mean == nullptr) {
      std::copy_n(source, count, target);
      return;
    }
    for (std::int64_t i = 0; i < count; i += kLanes) {
      const int lanes = lanes_left(count, i);
      const Vec value = (load_part(source + i, lanes) - mean[channel]) * scale[channel] + shift[channel];
      store_part(target + i, (Vec)((IntVec)value & ~(IntVec)(value < 0.0f)), lanes);
    }
  }
};

// Frames of one channel (t, v) -> target (range.count, v).
inline void copy_frames(const float* source, std::int64_t channel, std::int64_t t, std::int64_t v, FrameRange range,
                        const ChannelMap& map, float* target) {
  if (range.step == 1) {
    const std::int64_t begin = std::clamp<std::int64_t>(-range.first, 0, range.count);
    const std::int64_t end = std::clamp<std::int64_t>(t - range.first, begin, range.count);
    std::fill_n(target, begin * v, 0.0f);
    map.copy(source + (range.first + begin) * v, channel, (end - begin) * v, target + begin * v);
    std::fill_n(target + end * v, (range.count - end) * v, 0.0f);
    return;
  }
  for (std::int64_t i = 0; i < range.count; ++i, target += v) {
    const std::int64_t frame = range.first + i * range.step;
    if (frame >= 0 && frame < t)
      map.copy(source + frame * v, channel, v, target);
    else
      std::fill_n(target, v, 0.0f);
  }
}

}  // namespace
