// `EdgeConv` on a GPU, from products over points that the caller makes: `points` (b, n, 2 c_out), u and v of every
// point. A problem's x, weight, c and number of threads are not looked at. Neighbours out of range count as masked. n
// is below 2^24, n * k below 2^31. All arrays are the device's.
#pragma once

#include "common/cuda_status.h"
#include "edge_conv/edge_conv.h"

namespace skelkern {

// What statistics are taken to, all nullptr where none are.
struct EdgeConvStatistics {
  double* workspace;       // edge_conv_cuda_partials
  double* moments;         // (1 + 2 c_out): number of all edges, their means, their sums of squared deviations
  float *mean, *variance;  // (c_out) each, biased
};

// Doubles of workspace that `gather` and `reduce` need.
std::int64_t edge_conv_cuda_partials(const EdgeConvProblem& problem);

// 32-bit numbers of workspace that `backward` needs.
std::int64_t edge_conv_cuda_reverse(const EdgeConvProblem& problem);

// As EdgeConv::gather. counts (b, n): edges of every point.
CudaStatus edge_conv_cuda_gather(const EdgeConvProblem& problem, const float* points, const EdgeConvEdges& edges,
                                 std::int32_t* counts, const EdgeConvStatistics& statistics, const CudaQueue& queue);

// As EdgeConv::finish.
CudaStatus edge_conv_cuda_finish(const EdgeConvProblem& problem, const EdgeConvTail& tail, const std::int32_t* counts,
                                 const float* extremes, float* y, const CudaQueue& queue);

// As EdgeConv::reduce. hits (b, n, c_out): the gradient of the edge that a maximum comes from.
CudaStatus edge_conv_cuda_reduce(const EdgeConvProblem& problem, const EdgeConvTail& tail, const std::int32_t* counts,
                                 const float* extremes, const float* y_gradient, float* hits, double* workspace,
                                 double* sums, const CudaQueue& queue);

// What `backward` reads of what forward and `reduce` have left.
struct EdgeConvPassed {
  EdgeConvEdges edges;
  const std::int32_t* counts;
  const float* hits;
  const float* means;   // as in EdgeConv::backward; nullptr where the statistics did not come from the edges
  const float* points;  // not read without means
};

// gradients (b, n, 2 c_out): of points.
CudaStatus edge_conv_cuda_backward(const EdgeConvProblem& problem, const EdgeConvTail& tail,
                                   const EdgeConvPassed& passed, std::int32_t* workspace, float* gradients,
                                   const CudaQueue& queue);

}  // namespace skelkern
