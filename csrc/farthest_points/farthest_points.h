// Farthest point sampling (Eldar et al., 1997): each next point is the one farthest from those picked already.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

struct FarthestPointsProblem {
  const float* points;  // (b, n, d) row-major
  const bool* mask;     // (b, n), points that may be picked; nullptr: all may
  std::int64_t b, n, d, m;
  std::int64_t start;  // first pick; where the mask excludes it, the next one that it does not, around the end
  int threads;
};

struct FarthestPoints {
  // picks (b, m): ties go to the lower index; when all points are picked the first pick repeats; `start` where no point
  // may be picked. A NaN distance ranks as infinite. Returns false when out of memory.
  bool (*run)(const FarthestPointsProblem& problem, std::int64_t* picks);
};

SKELKERN_EVERY_LEVEL(FarthestPoints, farthest_points)

}  // namespace skelkern
