// A task is a cloud: one pass over its points for each pick updates the distances to the picked ones and finds the
// next.
#include <algorithm>
#include <cmath>

#include "common/parallel.h"
#include "common/simd.h"
#include "farthest_points/farthest_points.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

// A cloud's points and their squared distances to the nearest pick; those that may not be picked have -1.
struct Cloud {
  float* coordinates;  // (d, ld)
  float* distances;    // (ld)
  std::int64_t d, ld;
};

// Fills the cloud and returns how many points may be picked.
std::int64_t prepare(const FarthestPointsProblem& problem, std::int64_t index, const Cloud& cloud) {
  const bool* const mask = problem.mask == nullptr ? nullptr : problem.mask + index * problem.n;
  transpose(problem.points + index * problem.n * problem.d, problem.d, problem.n, problem.d, cloud.coordinates,
            cloud.ld);
  for (std::int64_t c = 0; c < cloud.d; ++c)
    std::fill(cloud.coordinates + c * cloud.ld + problem.n, cloud.coordinates + (c + 1) * cloud.ld, 0.0f);
  std::fill_n(cloud.distances, cloud.ld, -1.0f);
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < problem.n; ++i) {
    if (mask != nullptr && !mask[i]) continue;
    cloud.distances[i] = INFINITY;
    ++count;
  }
  return count;
}

// Takes the pick into account and returns the point that is now farthest.
std::int64_t next_pick(const Cloud& cloud, std::int64_t pick) {
  Vec farthest = splat(-1.0f);
  IntVec place{};
  for (std::int64_t i = 0; i < cloud.ld; i += kLanes) {
    Vec sum{};
    for (std::int64_t c = 0; c < cloud.d; ++c) {
      const float* const coordinate = cloud.coordinates + c * cloud.ld;
      const Vec difference = load(coordinate + i) - splat(coordinate[pick]);
      sum += difference * difference;
    }
    const Vec before = load(cloud.distances + i), distance = sum < before ? sum : before;
    store(cloud.distances + i, distance);
    const IntVec farther = distance > farthest;
    farthest = farther ? distance : farthest;
    place = farther ? IntVec{} + static_cast<std::int32_t>(i) : place;
  }
  std::int64_t best = 0;
  float most = -1.0f;
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::int64_t own = place[lane] + lane;
    if (farthest[lane] > most || (farthest[lane] == most && own < best)) most = farthest[lane], best = own;
  }
  return best;
}

void pick_points(const FarthestPointsProblem& problem, std::int64_t index, const Cloud& cloud, std::int64_t* picks) {
  const std::int64_t count = prepare(problem, index, cloud);
  std::int64_t pick = problem.start;
  while (count > 0 && cloud.distances[pick] < 0) pick = (pick + 1) % problem.n;
  std::fill_n(picks, problem.m, pick);
  for (std::int64_t i = 1; i < std::min(problem.m, count); ++i) {
    cloud.distances[pick] = 0.0f;  // also where its distance to itself is NaN
    pick = next_pick(cloud, pick);
    picks[i] = pick;
  }
}

bool run(const FarthestPointsProblem& problem, std::int64_t* picks) {
  const std::int64_t ld = padded(problem.n);
  return parallel_chunks(problem.b, problem.threads, static_cast<std::size_t>((problem.d + 1) * ld),
                         [&](std::int64_t index, float* memory) {
                           const Cloud cloud{memory, memory + problem.d * ld, problem.d, ld};
                           pick_points(problem, index, cloud, picks + index * problem.m);
                         });
}

}  // namespace

extern const FarthestPoints farthest_points;
const FarthestPoints farthest_points{run};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
