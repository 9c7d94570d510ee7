// A linear layer: y = x Wᵀ + b, optionally followed by a ReLU, and its gradients.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

// A matrix in memory; at least one of the strides, in floats, is 1.
struct Matrix {
  const float* data;
  std::int64_t row, column;
};

struct LinearProblem {
  Matrix x;           // (rows, in)
  Matrix weight;      // (out, in)
  const float* bias;  // optional (out)
  std::int64_t rows, in, out;
  bool relu;
  int threads;
};

// Contiguous; nullptr where no gradient is wanted.
struct LinearGradients {
  float* x;       // (rows, in)
  float* weight;  // (out, in)
  float* bias;    // (out)
};

// Both functions return false when out of memory, having written nothing of use.
struct Linear {
  bool (*forward)(const LinearProblem& problem, float* y);  // y (rows, out)
  // y: forward's result, read with a ReLU only, when `masked` (rows, out) receives the gradient behind it. All
  // contiguous.
  bool (*backward)(const LinearProblem& problem, const float* y, const float* y_gradient, float* masked,
                   const LinearGradients& gradients);
};

SKELKERN_EVERY_LEVEL(Linear, linear)

}  // namespace skelkern
