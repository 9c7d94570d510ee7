// The edges of every cloud by the point they end at, sorted by counting: a warp counts the edges of a part of a cloud,
// counts are summed over the parts and then over the points, and a warp puts its part's edges where they belong. Edges
// of a point are in rising order, whatever order threads ran in.
#pragma once

#include "edge_conv/cuda_layout.h"

namespace skelkern {
namespace {

// By the shape alone.
struct ReversePlan {
  std::int64_t edges, parts;  // of a part; of a cloud

  explicit ReversePlan(const EdgeConvProblem& problem) : edges(256), parts(0) {
    const std::int64_t all = problem.n * problem.k, fair = problem.b > 0 ? 1024 / problem.b : 1;
    const std::int64_t most = fair < 32 ? 32 : fair > 128 ? 128 : fair;
    if (all > edges * most) edges = ceil_div<std::int64_t>(all, most * kWarp) * kWarp;
    parts = ceil_div<std::int64_t>(all, edges);
  }
};

struct ReverseGraph {
  std::int32_t* starts;  // (b, n + 1): the edges that end at point j of a cloud are [starts[j], starts[j + 1]) of its
  unsigned* edges;       // (b, n * k): the point an edge begins at times 256 plus its slot there
  std::int32_t* counts;  // (b, parts, n): edges of a part, then of those before it, that end at a point

  static std::int64_t words(const EdgeConvProblem& problem) {
    return problem.b * (problem.n + 1 + problem.n * (problem.k + ReversePlan(problem).parts));
  }

  ReverseGraph(const EdgeConvProblem& problem, std::int32_t* memory)
      : starts(memory),
        edges(reinterpret_cast<unsigned*>(memory + problem.b * (problem.n + 1))),
        counts(memory + problem.b * (problem.n + 1 + problem.n * problem.k)) {}
};

// Counts the edges of a part by the point they end at or, where that has been done, fills them in.
template <bool fill>
__global__ void __launch_bounds__(kThreads)
    edge_conv_reverse(EdgeConvProblem problem, ReversePlan plan, ReverseGraph reverse) {
  const std::int64_t part = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (part >= problem.b * plan.parts) return;
  const std::int64_t cloud = part / plan.parts, first = part % plan.parts * plan.edges, all = problem.n * problem.k;
  const std::int64_t last = first + plan.edges < all ? first + plan.edges : all;
  const Neighbors neighbors(problem, cloud);
  const std::int32_t* const starts = reverse.starts + cloud * (problem.n + 1);
  std::int32_t* const counts = reverse.counts + part * problem.n;
  if (!fill) {
    for (std::int64_t j = lane; j < problem.n; j += kWarp) counts[j] = 0;
    __syncwarp();
  }
  for (std::int64_t start = first; start < last; start += kWarp) {
    const unsigned edge = static_cast<unsigned>(start) + static_cast<unsigned>(lane);
    const unsigned i = edge / static_cast<unsigned>(problem.k), slot = edge % static_cast<unsigned>(problem.k);
    std::int64_t j = edge < last && neighbors.has_point(i) ? neighbors.indices[edge] : -1;
    if (!neighbors.has_point(j)) j = -1;
    const unsigned same = __match_any_sync(kFullWarp, static_cast<int>(j));
    const int rank = __popc(same & ((1u << lane) - 1)), before = j < 0 ? 0 : counts[j];
    if (fill && j >= 0) reverse.edges[cloud * all + starts[j] + before + rank] = i << 8 | slot;
    __syncwarp();
    if (j >= 0 && rank == 0) counts[j] = before + __popc(same);
    __syncwarp();
  }
}

// Counts of parts become those of the parts before; starts[j + 1] gets the number of edges that end at j.
__global__ void __launch_bounds__(kThreads)
    edge_conv_before(EdgeConvProblem problem, ReversePlan plan, ReverseGraph reverse) {
  constexpr int kInFlight = 8;  // loads
  const std::int64_t point = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (point >= problem.b * problem.n) return;
  const std::int64_t cloud = point / problem.n, j = point % problem.n;
  std::int32_t* const counts = reverse.counts + cloud * plan.parts * problem.n + j;
  std::int32_t total = 0;
  for (std::int64_t first = 0; first < plan.parts; first += kInFlight) {
    std::int32_t of_part[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) of_part[i] = first + i < plan.parts ? counts[(first + i) * problem.n] : 0;
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (first + i < plan.parts) counts[(first + i) * problem.n] = total;
      total += of_part[i];
    }
  }
  reverse.starts[cloud * (problem.n + 1) + 1 + j] = total;
}

// A block sums a cloud's starts.
__global__ void __launch_bounds__(kThreads) edge_conv_starts(EdgeConvProblem problem, ReverseGraph reverse) {
  SKELKERN_SHARED(int, totals, kThreads / kWarp);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  std::int32_t* const starts = reverse.starts + blockIdx.x * (problem.n + 1);
  if (thread == 0) starts[0] = 0;
  std::int32_t carried = 0;
  for (std::int64_t first = 1; first <= problem.n; first += kThreads) {
    const std::int64_t j = first + thread;
    std::int32_t sum = j <= problem.n ? starts[j] : 0;
    for (int step = 1; step < kWarp; step *= 2) {
      const std::int32_t other = __shfl_sync(kFullWarp, sum, lane >= step ? lane - step : lane);
      if (lane >= step) sum += other;
    }
    __syncthreads();
    if (lane == kWarp - 1) totals[thread / kWarp] = sum;
    __syncthreads();
    sum += carried;
    for (int warp = 0; warp < kThreads / kWarp; ++warp) {
      if (warp < thread / kWarp) sum += totals[warp];
      carried += totals[warp];
    }
    if (j <= problem.n) starts[j] = sum;
  }
}

CudaStatus build_reverse(const EdgeConvProblem& problem, const ReverseGraph& reverse, const CudaQueue& queue) {
  const ReversePlan plan(problem);
  const auto blocks = [](std::int64_t threads) {
    return static_cast<unsigned>(ceil_div<std::int64_t>(threads, kThreads));
  };
  const dim3 of_parts = blocks(problem.b * plan.parts * kWarp), of_points = blocks(problem.b * problem.n);
  CudaStatus status =
      launch("edge_conv_reverse", edge_conv_reverse<false>, of_parts, kThreads, queue, problem, plan, reverse);
  if (!status.failed())
    status = launch("edge_conv_before", edge_conv_before, of_points, kThreads, queue, problem, plan, reverse);
  if (!status.failed())
    status = launch("edge_conv_starts", edge_conv_starts, static_cast<unsigned>(problem.b), kThreads, queue, problem,
                    reverse);
  if (status.failed()) return status;
  return launch("edge_conv_reverse", edge_conv_reverse<true>, of_parts, kThreads, queue, problem, plan, reverse);
}

}  // namespace
}  // namespace skelkern
