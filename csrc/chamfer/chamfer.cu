// A thread finds the nearest of the other cloud to one point; the other cloud passes by in tiles of shared memory. The
// distance is then made again without the weights' roots. Backward, a thread gathers one point's gradient: its own
// distance's, and those of the points whose nearest it is, which it finds among all indices of the other cloud; so
// nothing is added in an order that changes.
#include "chamfer/chamfer_cuda.h"
#include "common/cuda_columns.h"

namespace skelkern {
namespace {

// Of a side's two, without an address: parameters of kernels that are indexed with a variable go to local memory.
template <class T>
__device__ __forceinline__ T of_side(const T (&both)[2], int side) {
  return side == 0 ? both[0] : both[1];
}

// One point of one side, a thread's.
struct Point {
  int side;
  std::int64_t cloud, index;
  bool exists;

  __device__ Point(const ChamferProblem& problem, std::int64_t blocks_per_cloud)
      : side(static_cast<int>(blockIdx.y)),
        cloud(blockIdx.x / blocks_per_cloud),
        index(blockIdx.x % blocks_per_cloud * blockDim.x + threadIdx.x),
        exists(index < of_side(problem.n, side)) {}
};

__device__ Cloud cloud_of(const ChamferProblem& problem, int side, std::int64_t cloud) {
  const std::int64_t n = of_side(problem.n, side);
  const bool* const mask = of_side(problem.mask, side);
  return {of_side(problem.points, side) + cloud * n * problem.d,
          mask == nullptr ? nullptr : mask + cloud * n,
          problem.weights,
          nullptr,
          n,
          problem.d};
}

struct Nearest {
  unsigned key = kNowhere;
  std::int32_t index = -1;

  // In rising order of `i`: ties stay with the lower.
  __device__ __forceinline__ void offer(unsigned other, std::int64_t i) {
    if (other < key) key = other, index = static_cast<std::int32_t>(i);
  }
};

__device__ float squared_distance(const ChamferProblem& problem, const float* a, const float* b) {
  float sum = 0.0f;
  for (std::int64_t c = 0; c < problem.d; ++c) {
    const float difference = a[c] - b[c];
    sum += (problem.weights == nullptr ? 1.0f : problem.weights[c]) * difference * difference;
  }
  return sum;
}

__device__ void write(const ChamferProblem& problem, const Point& point, const Cloud& own, const Cloud& other,
                      std::int32_t index, const ChamferNearest& nearest) {
  if (!point.exists) return;
  if (!own.counts(point.index)) index = -1;
  float distance = 0.0f;
  if (index >= 0)
    distance = squared_distance(problem, own.points + point.index * own.d, other.points + index * other.d);
  const std::int64_t place = point.cloud * own.n + point.index;
  of_side(nearest.distances, point.side)[place] = problem.squared ? distance : sqrtf(distance);
  of_side(nearest.indices, point.side)[place] = index;
}

template <int V>
__global__ void __launch_bounds__(kTile, 4)
    chamfer_nearest(ChamferProblem problem, std::int64_t blocks_per_cloud, ChamferNearest nearest) {
  SKELKERN_SHARED(float4, tile, kTile * V);
  const Point point(problem, blocks_per_cloud);
  const Cloud own = cloud_of(problem, point.side, point.cloud), other = cloud_of(problem, 1 - point.side, point.cloud);
  const Packed<V> query(own, point.index);
  Nearest found;
  for (std::int64_t first = 0; first < other.n; first += kTile) {
    __syncthreads();
    load_tile<V>(other, first, tile);
    __syncthreads();
#pragma unroll 8
    for (int j = 0; j < kTile; ++j) found.offer(query.key_to(Packed<V>(tile, j)), first + j);
  }
  write(problem, point, own, other, found.index, nearest);
}

// As `chamfer_nearest`, for any number of coordinates.
__global__ void __launch_bounds__(kRows)
    chamfer_nearest_wide(ChamferProblem problem, std::int64_t blocks_per_cloud, ChamferNearest nearest) {
  SKELKERN_SHARED(float, queries, kQueryFloats);
  SKELKERN_SHARED(float4, columns, kColumnFloat4s);
  const Point point(problem, blocks_per_cloud);
  const Cloud own = cloud_of(problem, point.side, point.cloud), other = cloud_of(problem, 1 - point.side, point.cloud);
  Nearest found;
  for (std::int64_t first = 0; first < other.n; first += kColumns) {
    float sums[kColumns];
    combine_columns<AddSquaredDifference>(own, point.index - threadIdx.x, first == 0, other, first, queries, columns,
                                          sums);
#pragma unroll
    for (int j = 0; j < kColumns; ++j)
      if (other.counts(first + j)) found.offer(distance_key(sums[j]), first + j);
  }
  write(problem, point, own, other, found.index, nearest);
}

// Gradients of distances, forward's results and what is computed; by side.
struct Gradients {
  const float* of_distances[2];  // (b, n[side])
  float* of_points[2];           // (b, n[side], d)
};

// Adds to a point's gradient (d) that of one distance between it and another point; side and place are those of the
// distance.
__device__ void add_gradient(const ChamferProblem& problem, const ChamferNearest& nearest, const Gradients& gradients,
                             int side, std::int64_t place, const float* own, const float* other, float* sum) {
  const float distance = of_side(nearest.distances, side)[place];
  const float scale = problem.squared ? 2.0f : distance == 0.0f ? 0.0f : 1.0f / distance;
  const float step = of_side(gradients.of_distances, side)[place] * scale;
  for (std::int64_t c = 0; c < problem.d; ++c)
    sum[c] += step * (problem.weights == nullptr ? 1.0f : problem.weights[c]) * (own[c] - other[c]);
}

__global__ void __launch_bounds__(kTile, 4) chamfer_gradients(ChamferProblem problem, std::int64_t blocks_per_cloud,
                                                              ChamferNearest nearest, Gradients gradients) {
  SKELKERN_SHARED(int, tile, kTile);
  const Point point(problem, blocks_per_cloud);
  const int side = point.side;
  const Cloud own = cloud_of(problem, side, point.cloud), other = cloud_of(problem, 1 - side, point.cloud);
  const std::int64_t place = point.cloud * own.n + point.index, others = point.cloud * other.n;
  const float* const values = own.points + point.index * problem.d;
  float* const sum = of_side(gradients.of_points, side) + place * problem.d;
  if (point.exists) {
    for (std::int64_t c = 0; c < problem.d; ++c) sum[c] = 0.0f;
    const std::int32_t index = of_side(nearest.indices, side)[place];
    if (index >= 0)
      add_gradient(problem, nearest, gradients, side, place, values, other.points + index * problem.d, sum);
  }
  for (std::int64_t first = 0; first < other.n; first += kTile) {
    __syncthreads();
    for (int j = static_cast<int>(threadIdx.x); j < kTile; j += static_cast<int>(blockDim.x))
      tile[j] = first + j < other.n ? of_side(nearest.indices, 1 - side)[others + first + j] : -1;
    __syncthreads();
#pragma unroll 8
    for (int j = 0; j < kTile; ++j)
      if (point.exists && tile[j] == point.index)
        add_gradient(problem, nearest, gradients, 1 - side, others + first + j, values,
                     other.points + (first + j) * problem.d, sum);
  }
}

// Launches a kernel with a thread for every point of either side.
template <class Kernel, class... Arguments>
CudaStatus launch_for_points(const char* name, Kernel kernel, const ChamferProblem& problem, int threads,
                             const CudaQueue& queue, Arguments... arguments) {
  const std::int64_t most = problem.n[0] > problem.n[1] ? problem.n[0] : problem.n[1];
  const std::int64_t blocks = ceil_div<std::int64_t>(most, threads);
  return launch(name, kernel, dim3(static_cast<unsigned>(problem.b * blocks), 2), threads, queue, problem, blocks,
                arguments...);
}

int threads_of_block(const ChamferProblem& problem) {
  return threads_for(2 * problem.b, problem.n[0] > problem.n[1] ? problem.n[0] : problem.n[1]);
}

}  // namespace

CudaStatus chamfer_cuda_forward(const ChamferProblem& problem, const ChamferNearest& nearest, const CudaQueue& queue) {
  if (problem.d > 11)
    return launch_for_points("chamfer_nearest_wide", chamfer_nearest_wide, problem, kRows, queue, nearest);
  const auto kernel = problem.d <= 3 ? chamfer_nearest<1> : problem.d <= 7 ? chamfer_nearest<2> : chamfer_nearest<3>;
  return launch_for_points("chamfer_nearest", kernel, problem, threads_of_block(problem), queue, nearest);
}

CudaStatus chamfer_cuda_backward(const ChamferProblem& problem, const ChamferNearest& nearest,
                                 const float* const distance_gradients[2], float* const gradients[2],
                                 const CudaQueue& queue) {
  const Gradients both{{distance_gradients[0], distance_gradients[1]}, {gradients[0], gradients[1]}};
  return launch_for_points("chamfer_gradients", chamfer_gradients, problem, threads_of_block(problem), queue, nearest,
                           both);
}

}  // namespace skelkern
