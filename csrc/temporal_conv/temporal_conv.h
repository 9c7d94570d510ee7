// Convolution along time of (kernel, 1): y[n, c', t', v] = b[c'] + sum_(c, i) W[c', c, i] x[n, c, stride t' + dilation
// i - padding, v], frames outside of x being 0.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

// All arrays are contiguous, row-major, float32 and owned by the caller; optional ones are nullptr when absent.
struct TemporalConvProblem {
  const float* x;  // (n, c, t, v)
  // optional, all three or none, (c) each: what is convolved is relu((x - mean) scale + shift)
  const float *mean, *scale, *shift;
  const float* weight;  // (c_out, c, kernel)
  const float* bias;    // optional (c_out)
  std::int64_t n, c, t, v, c_out, kernel, stride, padding, dilation;
  int threads;

  std::int64_t t_out() const { return (t + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1; }
};

// Optional statistics of y: mean and biased variance of every channel, (c_out) each.
struct TemporalConvStatistics {
  float *mean, *variance;
};

// nullptr where no gradient is wanted. x: by what is convolved.
struct TemporalConvGradients {
  float* x;       // (n, c, t, v)
  float* weight;  // (c_out, c, kernel)
  float* bias;    // (c_out)
};

// Both functions return false when out of memory, having written nothing of use.
struct TemporalConv {
  // y (n, c_out, t_out, v)
  bool (*forward)(const TemporalConvProblem& problem, float* y, const TemporalConvStatistics& statistics);
  bool (*backward)(const TemporalConvProblem& problem, const float* y_gradient, const TemporalConvGradients& gradients);
};

SKELKERN_EVERY_LEVEL(TemporalConv, temporal_conv)

}  // namespace skelkern
