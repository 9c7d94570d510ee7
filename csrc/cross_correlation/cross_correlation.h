// Redundancy-reduction loss on two batches of embeddings (Zbontar et al., Barlow Twins, ICML 2021, eq. 1-2).
//
// Each feature is standardised over the batch (biased variance, eps added), C = z1^T z2 / N, and
//   loss = sum_i (1 - C_ii)^2 + off_diagonal_weight * sum_{i != j} C_ij^2.
// With N < D the sum of squares of C is <z1 z1^T, z2 z2^T> / N^2: two N x N products, no D x D array.
// Standardised embeddings are never kept: backward makes them again from the inputs and their statistics.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

struct CrossCorrelationInputs {
  const float* z[2];  // (n, d) row-major
  std::int64_t n;     // batch size, at least 2
  std::int64_t d;     // features, at least 1
  float off_diagonal_weight;
  float eps;
  int threads;
};

// What forward leaves for backward, owned by the caller.
struct CrossCorrelationSaved {
  float* statistics;  // (5, d): means of z1 and z2, 1 / standard deviations of z1 and z2, C_ii
  float* products;    // n < d: (2, n, n) z1 z1^T and z2 z2^T of the standardised embeddings; else (d, d) n C
};

// Both functions return false when out of memory, having written nothing of use.
struct CrossCorrelation {
  bool (*forward)(const CrossCorrelationInputs& inputs, const CrossCorrelationSaved& saved, double* loss);
  // gradients: (n, d) each, of loss_gradient * loss; a nullptr where none is wanted
  bool (*backward)(const CrossCorrelationInputs& inputs, const CrossCorrelationSaved& saved, float loss_gradient,
                   float* const gradients[2]);
};

SKELKERN_EVERY_LEVEL(CrossCorrelation, cross_correlation)

}  // namespace skelkern
