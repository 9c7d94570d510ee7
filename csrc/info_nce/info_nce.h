// Contrastive loss of queries against their positives and a queue of negatives (van den Oord et al., 2018, eq. 4).
//
// With s_p = <query, positive_p> / temperature and s_j = <query, queue_j> / temperature,
//   all = sum_p e^s_p + sum_j e^s_j
//   log_sum:   loss = log(all) - log(sum_p e^s_p)
//   mean_log:  loss = log(all) - mean_p s_p
// The queue is read once, block by block; the same pass yields the gradients, and no (n, k) array is made.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

struct InfoNceInputs {
  const float* query;      // (n, d) row-major
  const float* positives;  // (n, p, d), p at least 1
  const float* queue;      // (k, d); nullptr where k is 0
  std::int64_t n, d, p, k;
  float temperature;
  bool mean_log;
  int threads;
};

// Owned by the caller.
struct InfoNceResults {
  float* loss;              // (n)
  float* query_gradient;    // (n, d), of each query's own loss; nullptr where it is not wanted
  float* positive_weights;  // (n, p): the gradient of a loss by its positive p is this weight times the query
};

struct InfoNce {
  // Returns false when out of memory, having written nothing of use.
  bool (*run)(const InfoNceInputs& inputs, const InfoNceResults& results);
};

SKELKERN_EVERY_LEVEL(InfoNce, info_nce)

}  // namespace skelkern
