// The k most similar rows of a database for every query, by cosine similarity.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

struct CosineTopkProblem {
  const float* queries;   // (q, d) row-major
  const float* database;  // (n, d)
  std::int64_t q, n, d, k;
  int threads;
};

struct CosineTopk {
  // similarities, indices (q, k): the most similar first, ties to the lower index. A zero vector has similarity 0; NaN
  // ranks last. Returns false when out of memory, having written nothing of use.
  bool (*run)(const CosineTopkProblem& problem, float* similarities, std::int64_t* indices);
};

SKELKERN_EVERY_LEVEL(CosineTopk, cosine_topk)

}  // namespace skelkern
