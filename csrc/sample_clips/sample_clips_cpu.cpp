// A frame is interpolated into a small buffer as it lies, (persons, joints, channels); a table of the view's joint
// order then gathers each channel's plane (joints, persons) from it, with lanes over joints and persons.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/parallel.h"
#include "common/simd.h"
#include "sample_clips/sample_clips.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kFramesOfTask = 64;

constexpr std::int64_t kPairs = 16;  // of vectors, of which frames are permuted; of larger ones lanes are gathered

// Every lane's channels from `first` on out of a frame; places are those of channel 0. Instructions that gather load
// lane by lane: smaller frames, which lie in whole pairs of vectors, are permuted in registers, pair by pair of those
// in which one of the lanes lies, as the bits of `pairs` say; 0 where the frame is too large.
template <int Count>
SKELKERN_INLINE void gather(const float* frame, std::int32_t pairs, const std::int32_t* places, std::int64_t first,
                            Vec (&values)[Count]) {
#if defined(__AVX512F__)
  const IntVec place = (IntVec)_mm512_loadu_si512(places) + static_cast<std::int32_t>(first);
  if (pairs == 0) {
    for (int i = 0; i < Count; ++i)
      values[i] = (Vec)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, (__m512i)place, frame + i, 4);
    return;
  }
  for (; pairs != 0; pairs &= pairs - 1) {
    const std::int32_t begin = __builtin_ctz(static_cast<unsigned>(pairs)) * 2 * kLanes;
    const Vec low = load(frame + begin), high = load(frame + begin + kLanes);
    for (int i = 0; i < Count; ++i)
      values[i] = place + i >= begin ? __builtin_shuffle(low, high, place + i) : values[i];
  }
#else
  (void)pairs;
  for (int i = 0; i < Count; ++i)
    for (int lane = 0; lane < kLanes; ++lane) values[i][lane] = frame[places[lane] + first + i];
#endif
}

SKELKERN_INLINE Vec select(IntVec mask, Vec yes, Vec no) { return (Vec)((mask & (IntVec)yes) | (~mask & (IntVec)no)); }

SKELKERN_INLINE IntVec load_mask(const std::int32_t* p) {
  IntVec mask;
  std::memcpy(&mask, p, sizeof mask);
  return mask;
}

SKELKERN_INLINE Vec load_values(const float* p, int count) { return load_part(p, count); }

SKELKERN_INLINE Vec load_values(const std::uint16_t* p, int count) {  // bfloat16 is the upper half of a float32
  std::uint16_t halves[kLanes] = {};
  std::memcpy(halves, p, static_cast<std::size_t>(count) * sizeof *p);
  std::uint32_t bits[kLanes];
  for (int i = 0; i < kLanes; ++i) bits[i] = static_cast<std::uint32_t>(halves[i]) << 16;
  Vec v;
  std::memcpy(&v, bits, sizeof v);
  return v;
}

// The view's joint order, selections and map, spread over one plane (joints, persons) padded to whole vectors.
struct View {
  std::int64_t plane;    // joints * persons
  std::int32_t* source;  // (padded plane): place of the point's first channel in a frame
  std::int32_t* mapped;  // (padded plane): all bits set where linear applies
  std::int32_t* kept;    // (padded plane): all bits set where the joint is kept
  std::int32_t* pairs;   // (padded plane / kLanes): bit i where one of a vector's points lies in the frame's i-th pair
  float linear[9], translation[3];
  bool moves, masks;

  static std::int64_t floats(const SampleClipsProblem& p) { return 4 * round_up(p.joints * p.persons, kLanes); }

  View(const SampleClipsProblem& p, std::int64_t view, float* memory) : plane(p.joints * p.persons) {
    const std::int64_t size = round_up(plane, kLanes);
    source = reinterpret_cast<std::int32_t*>(memory);
    mapped = source + size;
    kept = mapped + size;
    pairs = kept + size;
    std::fill(source, pairs + size, 0);
    for (std::int64_t joint = 0; joint < p.joints; ++joint)
      for (std::int64_t person = 0; person < p.persons; ++person) set_point(p, view, joint, person);
    moves = p.linear != nullptr || p.translation != nullptr;
    masks = p.joint_keep != nullptr;
    for (int i = 0; i < 9; ++i) linear[i] = p.linear ? p.linear[view * 9 + i] : static_cast<float>(i % 4 == 0);
    for (int i = 0; i < 3; ++i) translation[i] = p.translation ? p.translation[view * 3 + i] : 0.0f;
  }

  void set_point(const SampleClipsProblem& p, std::int64_t view, std::int64_t joint, std::int64_t person) {
    const std::int64_t at = view * p.joints + joint, point = joint * p.persons + person;
    const std::int64_t from = p.joint_order ? p.joint_order[at] : joint;
    source[point] = static_cast<std::int32_t>((person * p.joints + from) * p.channels);
    mapped[point] = p.linear != nullptr && (p.linear_joints == nullptr || p.linear_joints[at]) ? -1 : 0;
    kept[point] = p.joint_keep == nullptr || p.joint_keep[at] ? -1 : 0;
    if (plane * p.channels > kPairs * 2 * kLanes) return;
    for (std::int64_t channel = 0; channel < p.channels; ++channel)
      pairs[point / kLanes] |= 1 << (source[point] + channel) / (2 * kLanes);
  }
};

// Interpolates the frame at `time` of a sample of `count` frames into buffer (size). A NaN time gives NaN.
template <class T>
void interpolate(const T* sample, std::int64_t count, std::int64_t size, float time, float* buffer) {
  const float last = static_cast<float>(count - 1);
  const float clamped = time < 0.0f ? 0.0f : time > last ? last : time;
  const std::int64_t before = clamped > 0.0f ? std::min(static_cast<std::int64_t>(clamped), count - 1) : 0;
  const float weight = clamped - static_cast<float>(before);
  const T* a = sample + before * size;
  const T* b = weight == 0.0f ? a : sample + std::min(before + 1, count - 1) * size;
  for (std::int64_t i = 0; i < size; i += kLanes) {
    const int lanes = static_cast<int>(std::min<std::int64_t>(kLanes, size - i));
    const Vec from = load_values(a + i, lanes);
    store(buffer + i, weight == 0.0f ? from : from + weight * (load_values(b + i, lanes) - from));
  }
}

// One frame from buffer into its place in clips: plane c of it is `plane_stride` floats behind plane c - 1.
void write_frame(const View& view, std::int64_t channels, const float* buffer, float* target,
                 std::int64_t plane_stride) {
  for (std::int64_t point = 0; point < view.plane; point += kLanes) {
    const int lanes = static_cast<int>(std::min<std::int64_t>(kLanes, view.plane - point));
    const std::int32_t* source = view.source + point;
    const IntVec kept = load_mask(view.kept + point);
    const auto write = [&](std::int64_t channel, Vec value) {
      if (view.masks) value = (Vec)((IntVec)value & kept);
      store_part(target + channel * plane_stride + point, value, lanes);
    };
    std::int64_t channel = 0;
    if (view.moves) {
      const IntVec mapped = load_mask(view.mapped + point);
      Vec xyz[3]{};
      gather(buffer, view.pairs[point / kLanes], source, 0, xyz);
      for (; channel < 3; ++channel) {
        const float* column = view.linear + channel;
        const Vec image = xyz[0] * column[0] + xyz[1] * column[3] + xyz[2] * column[6];
        write(channel, select(mapped, image, xyz[channel]) + view.translation[channel]);
      }
    }
    for (; channel < channels; ++channel) {
      Vec value[1]{};
      gather(buffer, view.pairs[point / kLanes], source, channel, value);
      write(channel, value[0]);
    }
  }
}

bool values_are_in_range(const SampleClipsProblem& p) {
  for (std::int64_t view = 0; view < p.views; ++view) {
    const std::int64_t sample = p.index[view];
    if (sample < 0 || sample >= p.samples) return false;
    if (p.offsets[sample] < 0 || p.offsets[sample] >= p.offsets[sample + 1] || p.offsets[sample + 1] > p.total)
      return false;
  }
  if (p.joint_order == nullptr) return true;
  return std::all_of(p.joint_order, p.joint_order + p.views * p.joints,
                     [&](std::int64_t joint) { return joint >= 0 && joint < p.joints; });
}

template <class T>
bool sample(const SampleClipsProblem& p, float* clips) {
  const std::int64_t size = p.persons * p.joints * p.channels, plane = p.persons * p.joints;
  const std::int64_t buffer_floats = round_up(size, 2 * kLanes);
  const std::int64_t tasks_of_view = ceil_div(p.length, kFramesOfTask);
  return parallel_chunks(p.views * tasks_of_view, p.threads, static_cast<std::size_t>(buffer_floats + View::floats(p)),
                         [&](std::int64_t task, float* scratch) {
                           const std::int64_t index = task / tasks_of_view, sample = p.index[index];
                           const View view(p, index, scratch + buffer_floats);
                           const T* frames = static_cast<const T*>(p.frames) + p.offsets[sample] * size;
                           const std::int64_t count = p.offsets[sample + 1] - p.offsets[sample];
                           const std::int64_t first = task % tasks_of_view * kFramesOfTask;
                           const std::int64_t last = std::min(p.length, first + kFramesOfTask);
                           for (std::int64_t t = first; t < last; ++t) {
                             interpolate(frames, count, size, p.times[index * p.length + t], scratch);
                             write_frame(view, p.channels, scratch, clips + (index * p.channels * p.length + t) * plane,
                                         p.length * plane);
                           }
                         });
}

SampleClipsResult run(const SampleClipsProblem& p, float* clips) {
  if (!values_are_in_range(p)) return SampleClipsResult::bad_value;
  const bool done = p.frames_are_bfloat16 ? sample<std::uint16_t>(p, clips) : sample<float>(p, clips);
  return done ? SampleClipsResult::done : SampleClipsResult::out_of_memory;
}

}  // namespace

extern const SampleClips sample_clips;
const SampleClips sample_clips{run};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
