// A thread makes all channels of one point, a joint of a person in one frame of a view: neighbouring threads write
// neighbouring places of each channel's plane and read the same few frames.
#include "common/cuda_kernel.h"
#include "sample_clips/sample_clips_cuda.h"

namespace skelkern {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float value_of(float value) { return value; }
__device__ __forceinline__ float value_of(std::uint16_t bfloat16) {
  return __uint_as_float(static_cast<unsigned>(bfloat16) << 16);
}

// The frames of a view's sample; none where an index or an offset is out of range.
struct Frames {
  std::int64_t first = 0, count = 0;

  __device__ Frames(const SampleClipsProblem& problem, std::int64_t view) {
    const std::int64_t sample = problem.index[view];
    if (sample < 0 || sample >= problem.samples) return;
    const std::int64_t start = problem.offsets[sample], end = problem.offsets[sample + 1];
    if (start >= 0 && start < end && end <= problem.total) first = start, count = end - start;
  }
};

// Between two frames of a point: values of all channels. A NaN time gives NaN.
template <class T>
class Point {
 public:
  __device__ Point(const SampleClipsProblem& problem, const Frames& frames, float time, std::int64_t person,
                   std::int64_t joint) {
    const float last = static_cast<float>(frames.count - 1);
    const float clamped = time < 0.0f ? 0.0f : time > last ? last : time;
    std::int64_t before = clamped > 0.0f ? static_cast<std::int64_t>(clamped) : 0;
    before = before < frames.count ? before : frames.count - 1;
    weight_ = clamped - static_cast<float>(before);
    const std::int64_t after = before + 1 < frames.count ? before + 1 : before;
    const std::int64_t joints = problem.persons * problem.joints, own = person * problem.joints + joint;
    earlier_ = static_cast<const T*>(problem.frames) + ((frames.first + before) * joints + own) * problem.channels;
    later_ = static_cast<const T*>(problem.frames) + ((frames.first + after) * joints + own) * problem.channels;
  }

  __device__ __forceinline__ float operator[](std::int64_t channel) const {
    const float from = value_of(earlier_[channel]);
    return weight_ == 0.0f ? from : from + weight_ * (value_of(later_[channel]) - from);
  }

 private:
  const T *earlier_, *later_;
  float weight_;
};

// place: view * joints + the joint's number after reordering. Writes the first three channels, moved.
template <class T>
__device__ __forceinline__ void write_moved(const SampleClipsProblem& problem, const Point<T>& point, std::int64_t view,
                                            std::int64_t place, float* target, std::int64_t plane) {
  const float x = point[0], y = point[1], z = point[2];
  float moved[3] = {x, y, z};
  if (problem.linear != nullptr && (problem.linear_joints == nullptr || problem.linear_joints[place])) {
    const float* const linear = problem.linear + view * 9;
#pragma unroll
    for (int c = 0; c < 3; ++c) moved[c] = x * linear[c] + y * linear[c + 3] + z * linear[c + 6];
  }
#pragma unroll
  for (int c = 0; c < 3; ++c)
    target[c * plane] = problem.translation == nullptr ? moved[c] : moved[c] + problem.translation[view * 3 + c];
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sample_clips(SampleClipsProblem problem, std::int64_t blocks_per_view, float* clips) {
  const std::int64_t view = blockIdx.x / blocks_per_view, plane = problem.length * problem.joints * problem.persons;
  const std::int64_t i = blockIdx.x % blocks_per_view * kThreads + threadIdx.x;
  if (i >= plane) return;
  const std::int64_t person = i % problem.persons, joint = i / problem.persons % problem.joints;
  const std::int64_t frame = i / problem.persons / problem.joints, place = view * problem.joints + joint;
  const std::int64_t source = problem.joint_order == nullptr ? joint : problem.joint_order[place];
  const Frames frames(problem, view);
  float* const target = clips + view * problem.channels * plane + i;
  const bool kept = problem.joint_keep == nullptr || problem.joint_keep[place];
  if (!kept || frames.count == 0 || source < 0 || source >= problem.joints) {
    for (std::int64_t channel = 0; channel < problem.channels; ++channel) target[channel * plane] = 0.0f;
    return;
  }
  const Point<T> point(problem, frames, problem.times[view * problem.length + frame], person, source);
  const bool moves = problem.linear != nullptr || problem.translation != nullptr;
  if (moves) write_moved(problem, point, view, place, target, plane);
  for (std::int64_t channel = moves ? 3 : 0; channel < problem.channels; ++channel)
    target[channel * plane] = point[channel];
}

}  // namespace

CudaStatus sample_clips_cuda(const SampleClipsProblem& problem, float* clips, const CudaQueue& queue) {
  const std::int64_t points = problem.length * problem.joints * problem.persons;
  const std::int64_t blocks = ceil_div<std::int64_t>(points, kThreads);
  const auto kernel = problem.frames_are_bfloat16 ? sample_clips<std::uint16_t> : sample_clips<float>;
  return launch("sample_clips", kernel, static_cast<unsigned>(problem.views * blocks), kThreads, queue, problem, blocks,
                clips);
}

}  // namespace skelkern
