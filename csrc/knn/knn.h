// The k nearest points of every point of a cloud, by squared distance.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

struct KnnProblem {
  const float* points;  // (b, n, d) row-major
  const bool* mask;     // (b, n), true for points that count; nullptr: all do
  std::int64_t b, n, d, k;
  int threads;
};

struct Knn {
  // neighbors (b, n, k): nearest first, ties to the lower index; with fewer than k points that count the last is
  // repeated; rows of the others hold their own index. A NaN distance ranks as infinite.
  // Returns false when out of memory, having written nothing of use.
  bool (*run)(const KnnProblem& problem, std::int64_t* neighbors);
};

SKELKERN_EVERY_LEVEL(Knn, knn)

}  // namespace skelkern
