// Redundancy-reduction loss on two batches of embeddings (Zbontar et al., Barlow Twins, ICML 2021, eq. 1-2).
//
// Each feature is standardised over the batch (biased variance, eps added), C = z1^T z2 / N, and
//   loss = sum_i (1 - C_ii)^2 + off_diagonal_weight * sum_{i != j} C_ij^2.
// With N < D the sum of squares of C is <z1 z1^T, z2 z2^T> / N^2: two N x N products, no D x D array.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

struct CrossCorrelationProblem {
  const float* z1;  // (n, d) row-major
  const float* z2;  // (n, d) row-major
  std::int64_t n;   // batch size, at least 2
  std::int64_t d;   // features, at least 1
  float off_diagonal_weight;
  float eps;
  double* loss;      // (1)
  float* gradient1;  // (n, d): d loss / d z1; nullptr when no gradient is wanted
  float* gradient2;  // (n, d): d loss / d z2; nullptr exactly when gradient1 is
  int threads;
};

struct CrossCorrelation {
  bool (*run)(const CrossCorrelationProblem& problem);  // false: out of memory, nothing written
};

SKELKERN_EVERY_LEVEL(CrossCorrelation, cross_correlation)

}  // namespace skelkern
