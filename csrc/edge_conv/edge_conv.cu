// A thread passes over the neighbours of some points in a few channels: their u by one wide load each, the extreme, its
// slot, and sums about the first neighbour's u. What threads have summed is merged in a fixed order, within a block and
// by a second kernel. Backward, a thread gathers for some points what edges pass on to them, along the reversed graph.
#include <cmath>

#include "edge_conv/cuda_reverse.h"
#include "edge_conv/edge_conv_cuda.h"

namespace skelkern {
namespace {

constexpr int kAtOnce = 4;  // edges of which a thread loads values before it looks at any

// Number, mean and squared deviations of some edges; merged as by Chan et al., 1979.
struct Moments {
  double edges, mean, squares;

  __device__ void merge(const Moments& other) {
    if (other.edges == 0.0) return;
    const double all = edges + other.edges, distance = other.mean - mean, share = other.edges / all;
    squares += other.squares + distance * distance * edges * share;
    mean += distance * share;
    edges = all;
  }
};

// Sums of the gradients of beta and gamma.
struct TailSums {
  double of_beta, of_gamma;

  __device__ void merge(const TailSums& other) {
    of_beta += other.of_beta;
    of_gamma += other.of_gamma;
  }
};

// Merges what a block's `rows` rows of `lanes` threads have; parts (V, kThreads), that of row 0 gets all.
template <int V, class Part, class Parts>
__device__ __forceinline__ void merge_rows(Parts& parts, int rows, int lanes) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int half = rows / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread / lanes >= half) continue;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      Part own = parts[v * kThreads + thread];
      own.merge(parts[v * kThreads + thread + half * lanes]);
      parts[v * kThreads + thread] = own;
    }
  }
}

// What a block has of its channels: partial (c_out, blocks).
template <int V, class Part, class Parts>
__device__ __forceinline__ void write_partial(Parts& parts, const EdgeConvProblem& problem, const Layout& layout,
                                              std::int64_t channel, Part* partial) {
  merge_rows<V, Part>(parts, layout.rows, layout.lanes);
  if (static_cast<int>(threadIdx.x) >= layout.lanes || channel >= problem.c_out) return;
#pragma unroll
  for (int v = 0; v < V; ++v)
    partial[(channel + v) * layout.blocks + blockIdx.x] = parts[v * kThreads + static_cast<int>(threadIdx.x)];
}

// All of one channel's partial results, which the block's first thread gets.
template <class Part, class Parts>
__device__ __forceinline__ Part merge_blocks(Parts& parts, const Part* partial, std::int64_t blocks) {
  Part own{};
  for (std::int64_t i = threadIdx.x; i < blocks; i += kThreads) own.merge(partial[blockIdx.x * blocks + i]);
  parts[static_cast<int>(threadIdx.x)] = own;
  merge_rows<1, Part>(parts, kThreads, 1);
  return threadIdx.x == 0 ? static_cast<Part>(parts[0]) : own;
}

// The edges of one point in V channels.
template <int V>
struct PointEdges {
  float first[V], best[V], total[V], squares[V];  // u of the first edge, of the extreme; sums of u - first
  int slots[V], count;

  // values: u of the cloud's first point in these channels, 2 c_out apart.
  __device__ __forceinline__ PointEdges(const Neighbors& neighbors, std::int64_t i, const float (&sign)[V],
                                        const float* values, std::int64_t stride)
      : count(0) {
    float key[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
      first[v] = best[v] = total[v] = squares[v] = 0.0f;
      key[v] = -INFINITY, slots[v] = 0;
    }
    if (!neighbors.has_point(i)) return;
    const std::int64_t* const own = neighbors.indices + i * neighbors.k;
    for (int slot = 0; slot < static_cast<int>(neighbors.k); slot += kAtOnce) {
      bool counts[kAtOnce];
      float u[kAtOnce][V];
      std::int64_t j[kAtOnce];
#pragma unroll
      for (int t = 0; t < kAtOnce; ++t) j[t] = slot + t < static_cast<int>(neighbors.k) ? own[slot + t] : -1;
#pragma unroll
      for (int t = 0; t < kAtOnce; ++t) counts[t] = neighbors.has_point(j[t]);
#pragma unroll
      for (int t = 0; t < kAtOnce; ++t) load<V>(values + (counts[t] ? j[t] : i) * stride, u[t]);
#pragma unroll
      for (int t = 0; t < kAtOnce; ++t) add(counts[t], slot + t, u[t], sign, key);
    }
  }

  // One edge; what does not count changes nothing.
  __device__ __forceinline__ void add(bool counts, int slot, const float (&u)[V], const float (&sign)[V],
                                      float (&key)[V]) {
    const bool is_first = counts && count == 0;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      first[v] = is_first ? u[v] : first[v];
      const float candidate = counts ? u[v] * sign[v] : -INFINITY, distance = counts ? u[v] - first[v] : 0.0f;
      const bool larger = candidate > key[v];
      key[v] = larger ? candidate : key[v];
      best[v] = larger ? u[v] : best[v];
      slots[v] = larger ? slot : slots[v];
      total[v] += distance;
      squares[v] += distance * distance;
    }
    count += counts ? 1 : 0;
  }

  // v: of the point; place: its and the channels'.
  __device__ __forceinline__ void write(const float (&v_of_point)[V], std::int64_t place,
                                        const EdgeConvEdges& edges) const {
    float extremes[V], sums[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const float nan_if_any = total[v] - total[v];  // comparisons have passed over NaN
      extremes[v] = count == 0 ? 0.0f : best[v] + v_of_point[v] + nan_if_any;
      sums[v] = count == 0 ? 0.0f : total[v] + static_cast<float>(count) * (first[v] + v_of_point[v]);
    }
    store<V>(edges.extremes + place, extremes);
    if (edges.sums != nullptr) store<V>(edges.sums + place, sums);
    if (edges.slots != nullptr) store_bytes<V>(edges.slots + place, slots);
  }
};

// Sums over a thread's edges about `pivot`, its first, so that a large mean costs no digits.
template <int V>
struct ThreadSums {
  float pivot[V], sum[V], squares[V];
  int edges = 0;

  __device__ __forceinline__ void add(const PointEdges<V>& point, const float (&v_of_point)[V]) {
    if (point.count == 0) return;
    const float count = static_cast<float>(point.count);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const float first = point.first[v] + v_of_point[v];
      if (edges == 0) pivot[v] = first, sum[v] = squares[v] = 0.0f;
      const float distance = first - pivot[v];
      sum[v] += point.total[v] + count * distance;
      squares[v] += point.squares[v] + distance * (2.0f * point.total[v] + count * distance);
    }
    edges += point.count;
  }

  __device__ __forceinline__ Moments moments(int v) const {
    if (edges == 0) return {0.0, 0.0, 0.0};
    const double shift = static_cast<double>(sum[v]) / edges, rest = squares[v] - shift * sum[v];
    return {static_cast<double>(edges), pivot[v] + shift, rest < 0.0 ? 0.0 : rest};
  }
};

// partial (c_out, blocks), or nullptr where no statistics are taken.
template <int V>
__global__ void __launch_bounds__(kThreads)
    edge_conv_gather(EdgeConvProblem problem, Layout layout, const float* points, EdgeConvEdges edges,
                     std::int32_t* counts, Moments* partial) {
  SKELKERN_SHARED(Moments, parts, V * kThreads);
  const Spot spot(problem, layout);
  const std::int64_t stride = 2 * problem.c_out;
  float sign[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const float gamma = spot.channel < problem.c_out ? problem.gamma[spot.channel + v] : 0.0f;
    sign[v] = gamma > 0.0f ? 1.0f : gamma < 0.0f ? -1.0f : 0.0f;
  }
  ThreadSums<V> sums;
  for (std::int64_t point = spot.first; point < spot.last; point += spot.rows) {
    const std::int64_t cloud = point / problem.n, start = cloud * problem.n;
    const float* const values = points + start * stride + spot.channel;
    const PointEdges<V> found(Neighbors(problem, cloud), point - start, sign, values, stride);
    float v_of_point[V];
    load<V>(values + (point - start) * stride + problem.c_out, v_of_point);
    found.write(v_of_point, point * problem.c_out + spot.channel, edges);
    if (spot.channel == 0) counts[point] = found.count;
    sums.add(found, v_of_point);
  }
  if (partial == nullptr) return;
#pragma unroll
  for (int v = 0; v < V; ++v) parts[v * kThreads + static_cast<int>(threadIdx.x)] = sums.moments(v);
  write_partial<V>(parts, problem, layout, spot.channel, partial);
}

__global__ void __launch_bounds__(kThreads)
    edge_conv_moments(const Moments* partial, std::int64_t blocks, EdgeConvStatistics statistics) {
  SKELKERN_SHARED(Moments, parts, kThreads);
  const Moments all = merge_blocks<Moments>(parts, partial, blocks);
  if (threadIdx.x != 0) return;
  const unsigned channel = blockIdx.x, c_out = gridDim.x;
  if (channel == 0) statistics.moments[0] = all.edges;
  statistics.moments[1 + channel] = all.mean;
  statistics.moments[1 + c_out + channel] = all.squares;
  statistics.mean[channel] = static_cast<float>(all.mean);
  statistics.variance[channel] = static_cast<float>(all.squares / all.edges);
}

// The scale and shift of V channels.
template <int V>
struct ThreadTail {
  float mean[V], inverse_std[V], gamma[V], beta[V];
  float slope;

  __device__ __forceinline__ ThreadTail(const EdgeConvProblem& problem, const EdgeConvTail& tail, std::int64_t channel)
      : slope(tail.negative_slope) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const bool exists = channel < problem.c_out;
      mean[v] = exists ? tail.mean[channel + v] : 0.0f;
      inverse_std[v] = exists ? tail.inverse_std[channel + v] : 0.0f;
      gamma[v] = exists ? problem.gamma[channel + v] : 0.0f;
      beta[v] = exists ? tail.beta[channel + v] : 0.0f;
    }
  }

  __device__ __forceinline__ float normalised(float e, int v) const { return (e - mean[v]) * inverse_std[v]; }

  __device__ __forceinline__ float before_activation(float e, int v) const {
    return normalised(e, v) * gamma[v] + beta[v];
  }
};

template <int V>
__global__ void __launch_bounds__(kThreads)
    edge_conv_finish(EdgeConvProblem problem, Layout layout, EdgeConvTail tail, const std::int32_t* counts,
                     const float* extremes, float* y) {
  const Spot spot(problem, layout);
  const ThreadTail<V> own(problem, tail, spot.channel);
  for (std::int64_t point = spot.first; point < spot.last; point += spot.rows) {
    const std::int64_t place = point * problem.c_out + spot.channel;
    const bool has_edges = counts[point] > 0;
    float values[V];
    load<V>(extremes + place, values);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const float z = own.before_activation(values[v], v);
      values[v] = !has_edges ? 0.0f : z > 0.0f ? z : z * own.slope;
    }
    store<V>(y + place, values);
  }
}

// partial (c_out, blocks)
template <int V>
__global__ void __launch_bounds__(kThreads)
    edge_conv_reduce(EdgeConvProblem problem, Layout layout, EdgeConvTail tail, const std::int32_t* counts,
                     const float* extremes, const float* y_gradient, float* hits, TailSums* partial) {
  SKELKERN_SHARED(TailSums, parts, V * kThreads);
  const Spot spot(problem, layout);
  const ThreadTail<V> own(problem, tail, spot.channel);
  float plain[V] = {}, scaled[V] = {};
  for (std::int64_t point = spot.first; point < spot.last; point += spot.rows) {
    const std::int64_t place = point * problem.c_out + spot.channel;
    const bool has_edges = counts[point] > 0;
    float values[V], gradient[V];
    load<V>(extremes + place, values);
    load<V>(y_gradient + place, gradient);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const float through = own.before_activation(values[v], v) > 0.0f ? gradient[v] : gradient[v] * own.slope;
      gradient[v] = has_edges ? through : 0.0f;
      plain[v] += gradient[v];
      scaled[v] += has_edges ? gradient[v] * own.normalised(values[v], v) : 0.0f;
      gradient[v] *= own.gamma[v] * own.inverse_std[v];
    }
    store<V>(hits + place, gradient);
  }
#pragma unroll
  for (int v = 0; v < V; ++v) parts[v * kThreads + static_cast<int>(threadIdx.x)] = TailSums{plain[v], scaled[v]};
  write_partial<V>(parts, problem, layout, spot.channel, partial);
}

// sums (2, c_out)
__global__ void __launch_bounds__(kThreads) edge_conv_sums(const TailSums* partial, std::int64_t blocks, double* sums) {
  SKELKERN_SHARED(TailSums, parts, kThreads);
  const TailSums all = merge_blocks<TailSums>(parts, partial, blocks);
  if (threadIdx.x != 0) return;
  sums[blockIdx.x] = all.of_beta;
  sums[gridDim.x + blockIdx.x] = all.of_gamma;
}

// How the statistics pass a gradient on: each edge gets -(constant + factor * (e - mean)).
template <int V>
struct ThroughStatistics {
  float constant[V], factor[V], mean[V];

  __device__ __forceinline__ ThroughStatistics(const EdgeConvProblem& problem, const EdgeConvTail& tail,
                                               const float* means, std::int64_t channel) {
    const ThreadTail<V> own(problem, tail, channel);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const bool passes = means != nullptr && channel < problem.c_out;
      const float scale = own.gamma[v] * own.inverse_std[v];
      constant[v] = passes ? scale * means[channel + v] : 0.0f;
      factor[v] = passes ? scale * own.inverse_std[v] * means[problem.c_out + channel + v] : 0.0f;
      mean[v] = own.mean[v];
    }
  }
};

// What the edges that end at a point pass on in V channels.
template <int V>
struct Arriving {
  float hits[V] = {}, deviations[V] = {};  // sums: of gradients of extremes, of e - mean

  // point: the edges' end; start: the first of its cloud; begin, end: of `edges`, the point each begins at and its
  // slot.
  __device__ __forceinline__ Arriving(const EdgeConvProblem& problem, const EdgeConvPassed& passed,
                                      const float (&mean)[V], std::int64_t channel, std::int64_t point,
                                      std::int64_t start, const unsigned* edges, int begin, int end) {
    const std::int64_t stride = 2 * problem.c_out;
    const bool through_statistics = passed.means != nullptr;
    float own[V] = {};
    if (through_statistics) load<V>(passed.points + point * stride + channel, own);
#pragma unroll
    for (int v = 0; v < V; ++v) own[v] -= mean[v];
    for (int edge = begin; edge < end; edge += kAtOnce) {
      unsigned numbers[kAtOnce], slots[kAtOnce];
      float others[kAtOnce][V] = {}, passing[kAtOnce][V];
#pragma unroll
      for (int t = 0; t < kAtOnce; ++t) numbers[t] = edges[edge + t < end ? edge + t : edge];
#pragma unroll
      for (int t = 0; t < kAtOnce; ++t) {
        const std::int64_t i = start + (numbers[t] >> 8);
        slots[t] = load_bytes<V>(passed.edges.slots + i * problem.c_out + channel);
        if (through_statistics) load<V>(passed.points + i * stride + problem.c_out + channel, others[t]);
      }
#pragma unroll
      for (int t = 0; t < kAtOnce; ++t) {
        const float* const from = passed.hits + (start + (numbers[t] >> 8)) * problem.c_out + channel;
        const unsigned slot = edge + t < end ? numbers[t] & 255u : 256u;  // which no maximum comes from
#pragma unroll
        for (int v = 0; v < V; ++v) passing[t][v] = (slots[t] >> 8 * v & 255u) == slot ? from[v] : 0.0f;
      }
#pragma unroll
      for (int t = 0; t < kAtOnce; ++t)
#pragma unroll
        for (int v = 0; v < V; ++v) {
          hits[v] += passing[t][v];
          deviations[v] += edge + t < end ? others[t][v] + own[v] : 0.0f;
        }
    }
  }
};

// gradients (b, n, 2 c_out)
template <int V>
__global__ void __launch_bounds__(kThreads)
    edge_conv_gradients(EdgeConvProblem problem, Layout layout, EdgeConvTail tail, EdgeConvPassed passed,
                        ReverseGraph reverse, float* gradients) {
  const Spot spot(problem, layout);
  const ThroughStatistics<V> statistics(problem, tail, passed.means, spot.channel);
  for (std::int64_t point = spot.first; point < spot.last; point += spot.rows) {
    const std::int64_t cloud = point / problem.n, start = cloud * problem.n;
    const std::int64_t place = point * problem.c_out + spot.channel;
    const std::int32_t* const starts = reverse.starts + cloud * (problem.n + 1) + point - start;
    const Arriving<V> arriving(problem, passed, statistics.mean, spot.channel, point, start,
                               reverse.edges + start * problem.k, starts[0], starts[1]);
    const float degree = static_cast<float>(starts[1] - starts[0]), count = static_cast<float>(passed.counts[point]);
    float sums[V] = {}, of_u[V], of_v[V];
    load<V>(passed.hits + place, of_v);
    if (passed.means != nullptr) load<V>(passed.edges.sums + place, sums);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const float constant = statistics.constant[v], factor = statistics.factor[v];
      of_u[v] = arriving.hits[v];
      if (degree > 0.0f) of_u[v] -= degree * constant + factor * arriving.deviations[v];
      if (count > 0.0f) of_v[v] -= count * constant + factor * (sums[v] - count * statistics.mean[v]);
    }
    store<V>(gradients + place + point * problem.c_out, of_u);
    store<V>(gradients + place + (point + 1) * problem.c_out, of_v);
  }
}

}  // namespace

std::int64_t edge_conv_cuda_partials(const EdgeConvProblem& problem) {
  return Layout(problem).blocks * problem.c_out * static_cast<std::int64_t>(sizeof(Moments) / sizeof(double));
}

std::int64_t edge_conv_cuda_reverse(const EdgeConvProblem& problem) { return ReverseGraph::words(problem); }

CudaStatus edge_conv_cuda_gather(const EdgeConvProblem& problem, const float* points, const EdgeConvEdges& edges,
                                 std::int32_t* counts, const EdgeConvStatistics& statistics, const CudaQueue& queue) {
  const Layout layout(problem);
  Moments* const partial = reinterpret_cast<Moments*>(statistics.workspace);
  const CudaStatus status = launch("edge_conv_gather", layout.vec == 4 ? edge_conv_gather<4> : edge_conv_gather<1>,
                                   layout.grid(), kThreads, queue, problem, layout, points, edges, counts, partial);
  if (status.failed() || partial == nullptr) return status;
  return launch("edge_conv_moments", edge_conv_moments, static_cast<unsigned>(problem.c_out), kThreads, queue, partial,
                layout.blocks, statistics);
}

CudaStatus edge_conv_cuda_finish(const EdgeConvProblem& problem, const EdgeConvTail& tail, const std::int32_t* counts,
                                 const float* extremes, float* y, const CudaQueue& queue) {
  const Layout layout(problem);
  return launch("edge_conv_finish", layout.vec == 4 ? edge_conv_finish<4> : edge_conv_finish<1>, layout.grid(),
                kThreads, queue, problem, layout, tail, counts, extremes, y);
}

CudaStatus edge_conv_cuda_reduce(const EdgeConvProblem& problem, const EdgeConvTail& tail, const std::int32_t* counts,
                                 const float* extremes, const float* y_gradient, float* hits, double* workspace,
                                 double* sums, const CudaQueue& queue) {
  const Layout layout(problem);
  TailSums* const partial = reinterpret_cast<TailSums*>(workspace);
  const CudaStatus status =
      launch("edge_conv_reduce", layout.vec == 4 ? edge_conv_reduce<4> : edge_conv_reduce<1>, layout.grid(), kThreads,
             queue, problem, layout, tail, counts, extremes, y_gradient, hits, partial);
  if (status.failed()) return status;
  return launch("edge_conv_sums", edge_conv_sums, static_cast<unsigned>(problem.c_out), kThreads, queue, partial,
                layout.blocks, sums);
}

CudaStatus edge_conv_cuda_backward(const EdgeConvProblem& problem, const EdgeConvTail& tail,
                                   const EdgeConvPassed& passed, std::int32_t* workspace, float* gradients,
                                   const CudaQueue& queue) {
  const Layout layout(problem);
  const ReverseGraph reverse(problem, workspace);
  const CudaStatus status = build_reverse(problem, reverse, queue);
  if (status.failed()) return status;
  return launch("edge_conv_gradients", layout.vec == 4 ? edge_conv_gradients<4> : edge_conv_gradients<1>, layout.grid(),
                kThreads, queue, problem, layout, tail, passed, reverse, gradients);
}

}  // namespace skelkern
