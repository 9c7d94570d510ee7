// The tail of a convolution block: batch normalisation, dropout, residual and ReLU,
//   y = relu(keep / (1 - p) * ((x - mean) * inverse_std * weight + bias) + residual),
// where keep is 0 with probability p. A draw is a pure function of the seed and the element's place, so that backward
// makes it again: word j of row r (one channel of one sample, `length` elements) is word j % 64 of Philox block
// r * ceil(length / 64) + j / 64, and the element is kept where the word is at least p * 2^32.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

// Optional arrays are nullptr when absent. All are contiguous and row-major.
struct BlockTailProblem {
  const float* x;            // (n, c, length)
  const float* mean;         // (c)
  const float* inverse_std;  // (c)
  const float* weight;       // optional (c), otherwise 1
  const float* bias;         // optional (c), otherwise 0
  const float* residual;     // optional (n, c, length)
  std::int64_t n, c, length;
  double dropout;  // p in [0, 1)
  std::uint64_t seed;
  bool relu;
  int threads;
};

// nullptr where no gradient is wanted.
struct BlockTailGradients {
  float* x;         // (n, c, length)
  float* weight;    // (c)
  float* bias;      // (c)
  float* residual;  // (n, c, length)
};

// All functions return false when out of memory, having written nothing of use.
struct BlockTail {
  // mean and biased variance of every channel of x (n, c, length), (c) each
  bool (*statistics)(const float* x, std::int64_t n, std::int64_t c, std::int64_t length, int threads, float* mean,
                     float* variance);
  // y: (n, c, length)
  bool (*forward)(const BlockTailProblem& problem, float* y);
  // Of forward's y, and its gradient, which x's gradient may overwrite. y may be nullptr where there is no residual or
  // no ReLU, the problem's x where neither statistics nor weight are differentiated and y is given or not needed.
  // through_statistics: mean and inverse_std are those of x itself.
  bool (*backward)(const BlockTailProblem& problem, bool through_statistics, const float* y, const float* y_gradient,
                   const BlockTailGradients& gradients);
};

SKELKERN_EVERY_LEVEL(BlockTail, block_tail)

}  // namespace skelkern
