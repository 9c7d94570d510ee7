// Graph convolution over joints (Yan et al., ST-GCN, AAAI 2018, eq. 10 with spatial partitioning):
//   y[n, c', t, w] = sum_k sum_v (W_k x + b_k)[n, c', t, v] A_k[v, w]
// Entries of A that are exactly zero contribute nothing.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

// All arrays are contiguous, row-major, float32 and owned by the caller.
struct GraphConvProblem {
  const float* x;          // (n, c, t, v)
  const float* weight;     // (k, c_out, c)
  const float* bias;       // (k, c_out), or nullptr
  const float* adjacency;  // (k, v, v), or (n, k, v, v) with per_sample
  std::int64_t n, c, t, v, k, c_out;
  bool per_sample;
  int threads;
};

// A nullptr where no gradient is wanted.
struct GraphConvGradients {
  float* x;          // (n, c, t, v)
  float* weight;     // (k, c_out, c)
  float* bias;       // (k, c_out)
  float* adjacency;  // like the problem's, dense
};

// Both functions return false when out of memory, having written nothing.
struct GraphConv {
  bool (*forward)(const GraphConvProblem& problem, float* y);  // y (n, c_out, t, v)
  bool (*backward)(const GraphConvProblem& problem, const float* y_gradient, const GraphConvGradients& gradients);
};

SKELKERN_EVERY_LEVEL(GraphConv, graph_conv)

}  // namespace skelkern
