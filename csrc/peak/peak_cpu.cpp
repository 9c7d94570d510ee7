#include "common/parallel.h"
#include "common/simd.h"
#include "peak/peak.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr int kChains = kLanes == 16 ? 24 : 12;  // enough to hide the latency, few enough for the registers

void multiply_add_chains(std::int64_t iterations, float* result) {
  Vec chains[kChains];
  for (int i = 0; i < kChains; ++i) chains[i] = splat(1.0f + static_cast<float>(i));
  const Vec factor = load(result), summand = load(result + kLanes);
  for (std::int64_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) chains[i] = chains[i] * factor + summand;
  }
  for (int i = 1; i < kChains; ++i) chains[0] += chains[i];
  store(result, chains[0]);  // a result that is used cannot be optimised away
}

double multiply_add(std::int64_t iterations, int threads) {
  parallel_chunks(threads, threads, 2 * kLanes, [&](std::int64_t, float* scratch) {
    store(scratch, splat(0.5f));
    store(scratch + kLanes, splat(1.0f));
    multiply_add_chains(iterations, scratch);
  });
  return 2.0 * kLanes * kChains * static_cast<double>(iterations) * threads;
}

}  // namespace

extern const Peak peak;
const Peak peak{multiply_add};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
