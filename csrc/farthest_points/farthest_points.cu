// A block picks the points of one cloud. Where they fit, its threads hold their points and the distances to the nearest
// pick in registers; a pick is one pass over them, a reduction within warps, one barrier and another reduction, which
// every warp makes for itself.
#include "common/cuda_kernel.h"
#include "farthest_points/farthest_points_cuda.h"

namespace skelkern {
namespace {

constexpr int kMostThreads = 1024;
constexpr int kMostWarps = kMostThreads / kWarp;
constexpr int kMostHeld = 8;        // points of a thread in registers
constexpr int kHeldDimensions = 3;  // most coordinates of such
constexpr int kNone = -0x7fffffff - 1;

// One block's cloud.
struct PickedCloud {
  const float* points;  // (n, d)
  const bool* mask;     // (n) or nullptr
  int n;
  std::int64_t d;

  __device__ PickedCloud(const FarthestPointsProblem& problem, std::int64_t cloud)
      : points(problem.points + cloud * problem.n * problem.d),
        mask(problem.mask == nullptr ? nullptr : problem.mask + cloud * problem.n),
        n(static_cast<int>(problem.n)),
        d(problem.d) {}

  __device__ bool may_pick(int i) const { return i < n && (mask == nullptr || mask[i]); }
  // Before any pick: infinite, and less than all distances where the point may not be picked.
  __device__ float distance(int i) const { return may_pick(i) ? __uint_as_float(0x7f800000u) : -1.0f; }
};

struct Best {
  int key = kNone;
  unsigned point = 0xffffffffu;

  // Of equal keys the first offered stays.
  __device__ __forceinline__ void offer(int other, int i) {
    if (other > key) key = other, point = static_cast<unsigned>(i);
  }

  // The warp's largest key and, of equal ones, the lowest point.
  __device__ __forceinline__ Best of_warp() const {
    Best best;
    best.key = __reduce_max_sync(kFullWarp, key);
    best.point = __reduce_min_sync(kFullWarp, key == best.key ? point : 0xffffffffu);
    return best;
  }
};

// The best of a block. keys and points (2, kMostWarps): halves are used in turn, so that one barrier is enough.
template <class Keys, class Points>
class BlockBest {
 public:
  __device__ BlockBest(Keys& keys, Points& points) : keys_(keys), points_(points) {}

  __device__ __forceinline__ Best operator()(const Best& own) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    const Best of_warp = own.of_warp();
    half_ = kMostWarps - half_;
    if (lane == 0) keys_[half_ + warp] = of_warp.key, points_[half_ + warp] = of_warp.point;
    __syncthreads();
    Best other;
    if (lane < static_cast<int>(blockDim.x) / kWarp) {
      other.key = keys_[half_ + lane];
      other.point = points_[half_ + lane];
    }
    return other.of_warp();
  }

 private:
  Keys& keys_;
  Points& points_;
  int half_ = 0;
};

// Points threadIdx + p blockDim for p < P, of up to kHeldDimensions coordinates.
template <int P>
class HeldPoints {
 public:
  __device__ HeldPoints(const PickedCloud& cloud, float*) : cloud_(cloud) {
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const int i = place(p);
      distances_[p] = cloud.distance(i);
#pragma unroll
      for (int c = 0; c < kHeldDimensions; ++c) values_[p][c] = i < cloud.n && c < cloud.d ? at(i, c) : 0.0f;
    }
  }

  // Takes the pick into account and returns the point that is now farthest.
  __device__ __forceinline__ Best after(int pick) {
    float picked[kHeldDimensions];
#pragma unroll
    for (int c = 0; c < kHeldDimensions; ++c) picked[c] = c < cloud_.d ? at(pick, c) : 0.0f;
    Best best;
#pragma unroll
    for (int p = 0; p < P; ++p) {
      float sum = 0.0f;
#pragma unroll
      for (int c = 0; c < kHeldDimensions; ++c) sum += (values_[p][c] - picked[c]) * (values_[p][c] - picked[c]);
      if (place(p) == pick) distances_[p] = 0.0f;  // also where its distance to itself is NaN
      distances_[p] = sum < distances_[p] ? sum : distances_[p];
      best.offer(__float_as_int(distances_[p]), place(p));
    }
    return best;
  }

 private:
  __device__ int place(int p) const { return static_cast<int>(threadIdx.x + p * blockDim.x); }
  __device__ float at(int i, int c) const { return cloud_.points[i * cloud_.d + c]; }

  const PickedCloud& cloud_;
  float values_[P][kHeldDimensions], distances_[P];
};

// Any number of points and coordinates, distances (n) in global memory.
class StoredPoints {
 public:
  __device__ StoredPoints(const PickedCloud& cloud, float* distances) : cloud_(cloud), distances_(distances) {
    for (int i = static_cast<int>(threadIdx.x); i < cloud.n; i += static_cast<int>(blockDim.x))
      distances[i] = cloud.distance(i);
  }

  __device__ __forceinline__ Best after(int pick) {
    const float* const picked = cloud_.points + pick * cloud_.d;
    Best best;
    for (int i = static_cast<int>(threadIdx.x); i < cloud_.n; i += static_cast<int>(blockDim.x)) {
      const float* const own = cloud_.points + i * cloud_.d;
      float sum = 0.0f;
      for (std::int64_t c = 0; c < cloud_.d; ++c) sum += (own[c] - picked[c]) * (own[c] - picked[c]);
      const float before = i == pick ? 0.0f : distances_[i], distance = sum < before ? sum : before;
      distances_[i] = distance;
      best.offer(__float_as_int(distance), i);
    }
    return best;
  }

 private:
  const PickedCloud& cloud_;
  float* distances_;
};

// workspace (b, n) for StoredPoints, else nullptr.
template <class Points>
__global__ void __launch_bounds__(kMostThreads, 1)
    farthest_points(FarthestPointsProblem problem, float* workspace, std::int64_t* picks) {
  SKELKERN_SHARED(int, keys, 2 * kMostWarps);
  SKELKERN_SHARED(unsigned, places, 2 * kMostWarps);
  SKELKERN_SHARED(int, counts, kMostWarps);
  const PickedCloud cloud(problem, blockIdx.x);
  BlockBest<decltype(keys), decltype(places)> best_of_block(keys, places);
  const int start = static_cast<int>(problem.start);
  Best nearest_to_start;
  int count = 0;
  for (int i = static_cast<int>(threadIdx.x); i < cloud.n; i += static_cast<int>(blockDim.x)) {
    if (!cloud.may_pick(i)) continue;
    nearest_to_start.offer(i >= start ? start - i : start - i - cloud.n, i);
    ++count;
  }
  count = __reduce_add_sync(kFullWarp, count);
  if (threadIdx.x % kWarp == 0) counts[threadIdx.x / kWarp] = count;
  Best best = best_of_block(nearest_to_start);
  count = 0;
  for (int warp = 0; warp < static_cast<int>(blockDim.x) / kWarp; ++warp) count += counts[warp];
  const int first = best.key == kNone ? start : static_cast<int>(best.point);
  picks += blockIdx.x * problem.m;
  Points points(cloud, workspace == nullptr ? nullptr : workspace + blockIdx.x * problem.n);
  for (std::int64_t i = threadIdx.x; i < problem.m; i += blockDim.x)
    if (i == 0 || i >= count) picks[i] = first;
  int pick = first;
  for (std::int64_t i = 1; i < problem.m && i < count; ++i) {
    pick = static_cast<int>(best_of_block(points.after(pick)).point);
    if (threadIdx.x == 0) picks[i] = pick;
  }
}

// Whether kMostHeld points a thread are enough.
bool fits(const FarthestPointsProblem& problem) {
  return problem.d <= kHeldDimensions && problem.n <= kMostThreads * kMostHeld;
}

}  // namespace

std::int64_t farthest_points_cuda_workspace(const FarthestPointsProblem& problem) {
  return fits(problem) ? 0 : problem.b * problem.n;
}

CudaStatus farthest_points_cuda(const FarthestPointsProblem& problem, float* workspace, std::int64_t* picks,
                                const CudaQueue& queue) {
  int threads = kWarp;
  while (threads < kMostThreads && problem.n > threads * kMostHeld) threads *= 2;
  const auto run = [&](auto kernel) {
    return launch("farthest_points", kernel, static_cast<unsigned>(problem.b), threads, queue, problem, workspace,
                  picks);
  };
  if (!fits(problem)) return run(farthest_points<StoredPoints>);
  workspace = nullptr;
  if (problem.n <= threads) return run(farthest_points<HeldPoints<1>>);
  if (problem.n <= 2 * threads) return run(farthest_points<HeldPoints<2>>);
  if (problem.n <= 4 * threads) return run(farthest_points<HeldPoints<4>>);
  return run(farthest_points<HeldPoints<8>>);
}

}  // namespace skelkern
