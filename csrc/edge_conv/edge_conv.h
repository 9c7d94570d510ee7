// Edge convolution of a point cloud with batch normalisation (Wang et al., DGCNN, ACM TOG 2019, section 3.1):
//   y_i = max_j LeakyReLU(BN(e_ij)),  e_ij = W [x_j - x_i ; x_i] = W1 x_j + (W2 - W1) x_i = u_j + v_i,
// for the neighbours j of point i. Two products over points; edges are summed and compared, never stored. The
// activation does not fall, so the maximum comes from the largest e_ij where gamma > 0 and from the smallest where
// gamma < 0; where gamma is 0, and at ties, from the first.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

struct EdgeConvProblem {
  const float* x;                  // (b, n, c) row-major
  const std::int64_t* neighbors;   // (b, n, k)
  const float* weight;             // (c_out, 2 c): W1, W2
  const float* gamma;              // (c_out)
  const bool* mask;                // (b, n), edges from and to points outside it do not exist; nullptr: all do
  std::int64_t b, n, k, c, c_out;  // k at most 256
  int threads;
};

// What forward leaves for backward, owned by the caller: (b, n, c_out) each.
struct EdgeConvEdges {
  float* extremes;      // the e_ij that the maximum comes from; 0 without edges
  std::uint8_t* slots;  // its place among the neighbours; may be nullptr in forward, when no backward follows
  float* sums;          // sum of a point's e_ij; may be nullptr likewise
};

// BN(e) = (e - mean) * inverse_std * gamma + beta, then slopes of LeakyReLU. (c_out) each.
struct EdgeConvTail {
  const float *mean, *inverse_std, *beta;
  float negative_slope;
};

enum class EdgeConvResult { done, out_of_memory, index_out_of_range };

struct EdgeConv {
  // moments (2, c_out): mean and sum of squared deviations over all edges; *count: how many those are.
  EdgeConvResult (*gather)(const EdgeConvProblem& problem, const EdgeConvEdges& edges, double* moments,
                           std::int64_t* count);
  // y (b, n, c_out), 0 for points without edges; may be `extremes`.
  bool (*finish)(const EdgeConvProblem& problem, const EdgeConvTail& tail, const float* extremes, float* y);
  // sums (2, c_out): the gradients of beta and gamma.
  bool (*reduce)(const EdgeConvProblem& problem, const EdgeConvTail& tail, const float* extremes,
                 const float* y_gradient, double* sums);
  // means (2, c_out): the gradients of beta and gamma, divided by the number of all edges; zeros where the statistics
  // did not come from the edges. x_gradient (b, n, c), or nullptr; weight_gradient (c_out, 2 c).
  bool (*backward)(const EdgeConvProblem& problem, const EdgeConvTail& tail, const EdgeConvEdges& edges,
                   const float* y_gradient, const float* means, float* x_gradient, float* weight_gradient);
};

SKELKERN_EVERY_LEVEL(EdgeConv, edge_conv)

}  // namespace skelkern
