// Chamfer distance: from every point of a cloud to the nearest of another, both ways.
//
// d(x, y) = sum_d weights_d (x_d - y_d)^2, or its square root.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

struct ChamferProblem {
  const float* points[2];  // (b, n[0], d) and (b, n[1], d) row-major
  const bool* mask[2];     // (b, n[side]), points that count; nullptr: all do
  const float* weights;    // (d), not negative; nullptr: all 1
  std::int64_t b, n[2], d;
  bool squared;
  int threads;
};

// By side, (b, n[side]) each: the distance to the other cloud and the index of the nearest point in it. Points that do
// not count, and those of a pair of clouds one of which is empty, have distance 0 and index -1.
struct ChamferNearest {
  float* distances[2];
  std::int32_t* indices[2];
};

struct Chamfer {
  // Ties go to the lower index; a NaN distance ranks as infinite. Returns false when out of memory.
  bool (*forward)(const ChamferProblem& problem, const ChamferNearest& nearest);
  // distance_gradients (b, n[side]); gradients (b, n[side], d). The gradient of a root at 0 is 0.
  bool (*backward)(const ChamferProblem& problem, const ChamferNearest& nearest,
                   const float* const distance_gradients[2], float* const gradients[2]);
};

SKELKERN_EVERY_LEVEL(Chamfer, chamfer)

}  // namespace skelkern
