// A thread finds the neighbours of one point: all points pass by in tiles of shared memory, those nearer than the
// thread's k-th enter a short queue, and when one lane's queue is full the warp merges them into sorted lists. A list
// is in registers, so that its places are known when compiling; more neighbours than it holds are found in further
// passes, each of what comes behind the last. Candidates pass in rising order: ties go to the lower index.
//
// Up to 8 dimensions they are ordered by squared distances, made by subtraction; beyond, by |x_j|^2 / 2 - <x_i, x_j> of
// the centred cloud, products of a thread's point with a few candidates at a time.
#include "common/cuda_columns.h"
#include "knn/knn_cuda.h"

namespace skelkern {
namespace {

constexpr std::int64_t kSubtracted = 8;     // most dimensions whose differences are formed
constexpr int kQueue = 8;                   // candidates that wait for a merge
constexpr int kStep = 4;                    // candidates between looks at the queues' lengths
constexpr int kCentred = 32, kStripes = 8;  // coordinates and rows of points of a block that finds centres

// The point whose neighbours a thread finds.
struct Query {
  std::int64_t cloud, point;
  bool exists, wanted;

  __device__ Query(const KnnProblem& problem, std::int64_t blocks_per_cloud)
      : cloud(blockIdx.x / blocks_per_cloud),
        point(blockIdx.x % blocks_per_cloud * blockDim.x + threadIdx.x),
        exists(point < problem.n),
        wanted(exists && (problem.mask == nullptr || problem.mask[cloud * problem.n + point])) {}
};

__device__ Cloud cloud_of(const KnnProblem& problem, std::int64_t cloud) {
  const bool* const mask = problem.mask == nullptr ? nullptr : problem.mask + cloud * problem.n;
  return {problem.points + cloud * problem.n * problem.d, mask, nullptr, nullptr, problem.n, problem.d};
}

// The nearest K points, and those that wait to be compared with them. Keys (kQueue, kThreads) and Points are shared
// memory, a thread's own column.
template <int K, int kThreads, class Keys, class Points>
class Nearest {
 public:
  __device__ Nearest(Keys& waiting_keys, Points& waiting_points, bool wanted)
      : waiting_keys_(waiting_keys), waiting_points_(waiting_points), wanted_(wanted) {}

  // Forgets all and looks for the `count` nearest behind the last one found so far. Places before them hold the least
  // key, so that the last place is the count-th.
  __device__ __forceinline__ void restart(int count) {
    bound_ = last_key_, bound_point_ = last_;
#pragma unroll
    for (int i = 0; i < K; ++i) keys_[i] = wanted_ && i >= K - count ? kNowhere : 0, points_[i] = 0;
    waiting_ = 0;
  }

  __device__ __forceinline__ void offer(unsigned key, int point) {
    if (key >= keys_[K - 1]) return;
    if (last_ >= 0 && (key < bound_ || (key == bound_ && point <= bound_point_))) return;
    waiting_keys_[waiting_ * kThreads + threadIdx.x] = key;
    waiting_points_[waiting_ * kThreads + threadIdx.x] = point;
    ++waiting_;
  }

  // To be called by whole warps, at least after every kStep offers.
  __device__ __forceinline__ void make_room() {
    if (__any_sync(kFullWarp, waiting_ > kQueue - kStep)) merge();
  }

  __device__ __forceinline__ void merge() {
    for (int slot = 0; slot < waiting_; ++slot)
      insert(waiting_keys_[slot * kThreads + threadIdx.x], waiting_points_[slot * kThreads + threadIdx.x]);
    waiting_ = 0;
  }

  // Writes what was found, then the last one again up to `count`; a point without neighbours has `own`.
  __device__ __forceinline__ void write(int count, std::int64_t own, std::int64_t* neighbors) {
    if (last_ < 0) last_ = static_cast<int>(own);
#pragma unroll
    for (int i = 0; i < K; ++i) {
      if (i < K - count) continue;
      if (wanted_ && keys_[i] != kNowhere) last_ = points_[i];
      neighbors[i - (K - count)] = last_;
    }
    last_key_ = keys_[K - 1];
  }

 private:
  __device__ __forceinline__ void insert(unsigned key, int point) {
#pragma unroll
    for (int i = K - 1; i > 0; --i) {
      const bool before = key < keys_[i - 1], here = key < keys_[i];
      keys_[i] = before ? keys_[i - 1] : here ? key : keys_[i];
      points_[i] = before ? points_[i - 1] : here ? point : points_[i];
    }
    if (key < keys_[0]) keys_[0] = key, points_[0] = point;
  }

  Keys& waiting_keys_;
  Points& waiting_points_;
  const bool wanted_;
  unsigned keys_[K], bound_ = 0, last_key_ = 0;
  int points_[K], bound_point_ = -1, last_ = -1, waiting_ = 0;
};

template <int V, int K>
__global__ void __launch_bounds__(kTile, 4)
    knn_by_subtraction(KnnProblem problem, std::int64_t blocks_per_cloud, std::int64_t* neighbors) {
  SKELKERN_SHARED(float4, tile, kTile * V);
  SKELKERN_SHARED(unsigned, waiting_keys, kQueue* kTile);
  SKELKERN_SHARED(int, waiting_points, kQueue* kTile);
  const Query query(problem, blocks_per_cloud);
  const Cloud cloud = cloud_of(problem, query.cloud);
  const Packed<V> own(cloud, query.point);
  Nearest<K, kTile, decltype(waiting_keys), decltype(waiting_points)> nearest(waiting_keys, waiting_points,
                                                                              query.wanted);
  for (std::int64_t found = 0; found < problem.k; found += K) {
    const int count = static_cast<int>(problem.k - found < K ? problem.k - found : K);
    nearest.restart(count);
    for (std::int64_t first = 0; first < problem.n; first += kTile) {
      __syncthreads();
      load_tile<V>(cloud, first, tile);
      __syncthreads();
      for (int j = 0; j < kTile && first + j < problem.n; j += kStep) {
#pragma unroll
        for (int i = j; i < j + kStep; ++i) nearest.offer(own.key_to(Packed<V>(tile, i)), static_cast<int>(first) + i);
        nearest.make_room();
      }
    }
    nearest.merge();
    if (query.exists)
      nearest.write(count, query.point, neighbors + (query.cloud * problem.n + query.point) * problem.k + found);
  }
}

// A centre of a coordinate's range, rounded to a power of two of about the range's size: differences from it are as
// exact as the coordinates are, on an integer lattice without any error.
__device__ float round_centre(float low, float high) {
  if (!(high > low)) return low <= high ? low : 0.0f;
  const float step = __uint_as_float(__float_as_uint(high - low) & kInfinity);
  const float centre = rintf((low + (high - low) / 2) / step) * step;
  return (__float_as_uint(centre) & kInfinity) < kInfinity ? centre : 0.0f;
}

// centres (b, d) of the points that count.
__global__ void __launch_bounds__(kCentred* kStripes)
    knn_centres(KnnProblem problem, std::int64_t blocks_per_cloud, float* centres) {
  SKELKERN_SHARED(float, lows, kStripes* kCentred);
  SKELKERN_SHARED(float, highs, kStripes* kCentred);
  const Cloud cloud = cloud_of(problem, blockIdx.x / blocks_per_cloud);
  const std::int64_t c = blockIdx.x % blocks_per_cloud * kCentred + threadIdx.x;
  float low = __uint_as_float(kInfinity), high = -low;
  for (std::int64_t i = threadIdx.y; i < problem.n && c < problem.d; i += kStripes) {
    if (!cloud.counts(i)) continue;
    const float value = cloud.points[i * problem.d + c];
    low = value < low ? value : low;
    high = value > high ? value : high;
  }
  lows[threadIdx.y * kCentred + threadIdx.x] = low;
  highs[threadIdx.y * kCentred + threadIdx.x] = high;
  __syncthreads();
  if (threadIdx.y != 0 || c >= problem.d) return;
  for (int stripe = 1; stripe < kStripes; ++stripe) {
    const float other_low = lows[stripe * kCentred + threadIdx.x], other_high = highs[stripe * kCentred + threadIdx.x];
    low = other_low < low ? other_low : low;
    high = other_high > high ? other_high : high;
  }
  centres[blockIdx.x / blocks_per_cloud * problem.d + c] = round_centre(low, high);
}

// offsets (b, n): |x|^2 / 2 of the centred points, a warp each.
__global__ void __launch_bounds__(kTile) knn_offsets(KnnProblem problem, const float* centres, float* offsets) {
  const std::int64_t point = std::int64_t{blockIdx.x} * (kTile / kWarp) + threadIdx.x / kWarp;
  if (point >= problem.b * problem.n) return;
  const float *const values = problem.points + point * problem.d, *const centre =
                                                                      centres + point / problem.n * problem.d;
  float sum = 0.0f;
  for (std::int64_t c = threadIdx.x % kWarp; c < problem.d; c += kWarp)
    sum += 0.5f * (values[c] - centre[c]) * (values[c] - centre[c]);
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kFullWarp, sum, lanes);
  if (threadIdx.x % kWarp == 0) offsets[point] = sum;
}

// Whole numbers that order as the values do. -0 is 0; NaN and -infinity, which only overflow makes, are infinite.
__device__ __forceinline__ unsigned ordered_key(float value) {
  const unsigned bits = __float_as_uint(value + 0.0f);
  if ((bits & kInfinity) == kInfinity) return 0x80000000u | kInfinity;
  return (bits >> 31) != 0 ? ~bits : 0x80000000u | bits;
}

template <int K>
__global__ void __launch_bounds__(kRows)
    knn_by_products(KnnProblem problem, std::int64_t blocks_per_cloud, const float* centres, const float* offsets,
                    std::int64_t* neighbors) {
  SKELKERN_SHARED(float, queries, kChunk*(kRows + 1));
  SKELKERN_SHARED(float4, columns, kColumnFloat4s);
  SKELKERN_SHARED(unsigned, waiting_keys, kQueue* kRows);
  SKELKERN_SHARED(int, waiting_points, kQueue* kRows);
  const Query query(problem, blocks_per_cloud);
  Cloud cloud = cloud_of(problem, query.cloud);
  cloud.centre = centres + query.cloud * problem.d;
  offsets += query.cloud * problem.n;
  Nearest<K, kRows, decltype(waiting_keys), decltype(waiting_points)> nearest(waiting_keys, waiting_points,
                                                                              query.wanted);
  for (std::int64_t found = 0; found < problem.k; found += K) {
    const int count = static_cast<int>(problem.k - found < K ? problem.k - found : K);
    nearest.restart(count);
    for (std::int64_t first = 0; first < problem.n; first += kColumns) {
      float products[kColumns];
      combine_columns<AddProduct>(cloud, query.point - threadIdx.x, first == 0 && found == 0, cloud, first, queries,
                                  columns, products);
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const std::int64_t point = first + j;
        if (cloud.counts(point)) nearest.offer(ordered_key(offsets[point] - products[j]), static_cast<int>(point));
        if (j % kStep == kStep - 1) nearest.make_room();
      }
    }
    nearest.merge();
    if (query.exists)
      nearest.write(count, query.point, neighbors + (query.cloud * problem.n + query.point) * problem.k + found);
  }
}

template <int V, int K>
CudaStatus subtract(const KnnProblem& problem, std::int64_t* neighbors, const CudaQueue& queue) {
  const int threads = threads_for(problem.b, problem.n);
  const std::int64_t blocks = ceil_div<std::int64_t>(problem.n, threads);
  return launch("knn_by_subtraction", knn_by_subtraction<V, K>, static_cast<unsigned>(problem.b * blocks), threads,
                queue, problem, blocks, neighbors);
}

template <int K>
CudaStatus multiply(const KnnProblem& problem, float* workspace, std::int64_t* neighbors, const CudaQueue& queue) {
  float *const centres = workspace, *const offsets = workspace + problem.b * problem.d;
  const std::int64_t parts = ceil_div<std::int64_t>(problem.d, kCentred);
  CudaStatus status = launch("knn_centres", knn_centres, static_cast<unsigned>(problem.b * parts),
                             dim3(kCentred, kStripes), queue, problem, parts, centres);
  if (status.failed()) return status;
  const std::int64_t warps = ceil_div<std::int64_t>(problem.b * problem.n, kTile / kWarp);
  status = launch("knn_offsets", knn_offsets, static_cast<unsigned>(warps), kTile, queue, problem, centres, offsets);
  if (status.failed()) return status;
  const std::int64_t blocks = ceil_div<std::int64_t>(problem.n, kRows);
  return launch("knn_by_products", knn_by_products<K>, static_cast<unsigned>(problem.b * blocks), kRows, queue, problem,
                blocks, centres, offsets, neighbors);
}

template <int K>
CudaStatus run(const KnnProblem& problem, float* workspace, std::int64_t* neighbors, const CudaQueue& queue) {
  if (problem.d > kSubtracted) return multiply<K>(problem, workspace, neighbors, queue);
  if (problem.d <= 3) return subtract<1, K>(problem, neighbors, queue);
  if (problem.d <= 7) return subtract<2, K>(problem, neighbors, queue);
  return subtract<3, K>(problem, neighbors, queue);
}

}  // namespace

std::int64_t knn_cuda_workspace(const KnnProblem& problem) {
  return problem.d > kSubtracted ? problem.b * (problem.d + problem.n) : 0;
}

CudaStatus knn_cuda(const KnnProblem& problem, float* workspace, std::int64_t* neighbors, const CudaQueue& queue) {
  if (problem.k <= 8) return run<8>(problem, workspace, neighbors, queue);
  if (problem.k <= 20) return run<20>(problem, workspace, neighbors, queue);
  return run<32>(problem, workspace, neighbors, queue);
}

}  // namespace skelkern
