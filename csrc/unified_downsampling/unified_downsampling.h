// HiCo's unified down-sampling module on sequences (n, t, c): a convolution along time of each channel by itself, layer
// normalisation over the channels, ReLU, and the maximum over `pool` frames at a time; frames left over are dropped.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

// All arrays are contiguous and row-major. Zeros lie before and behind the frames where there is padding.
struct UnifiedDownsamplingProblem {
  const float* x;       // (n, t, c)
  const float* weight;  // (c, kernel)
  const float* bias;    // optional (c)
  const float* gamma;   // (c)
  const float* beta;    // (c)
  std::int64_t n, t, c, kernel, stride, padding, pool;
  float eps;  // added to the variance
  int threads;

  std::int64_t results() const { return ((t + 2 * padding - kernel) / stride + 1) / pool; }
};

// nullptr where no gradient is wanted.
struct UnifiedDownsamplingGradients {
  float* x;       // (n, t, c)
  float* weight;  // (c, kernel)
  float* bias;    // (c)
  float* gamma;   // (c)
  float* beta;    // (c)
};

// Both functions return false when out of memory, having written nothing of use.
struct UnifiedDownsampling {
  bool (*forward)(const UnifiedDownsamplingProblem& problem, float* y);  // y (n, results, c)
  // Everything between x and y is computed again. Among equal maxima the first frame gets the gradient.
  bool (*backward)(const UnifiedDownsamplingProblem& problem, const float* y_gradient,
                   const UnifiedDownsamplingGradients& gradients);
};

SKELKERN_EVERY_LEVEL(UnifiedDownsampling, unified_downsampling)

}  // namespace skelkern
