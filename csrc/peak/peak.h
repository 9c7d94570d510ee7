// What the processor can do at best: the floor against which benchmarks put a kernel's time.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

struct Peak {
  // Runs independent fused multiply-adds in registers on every thread; returns the floating-point operations done.
  double (*multiply_add)(std::int64_t iterations, int threads);
};

SKELKERN_EVERY_LEVEL(Peak, peak)

}  // namespace skelkern
