// Every distance is made once, in tiles of a few points of the first cloud by vectors of the second, and serves both
// directions. Running minima remember a group of points only; which of the group it was is found afterwards, by making
// its few distances again with the same operations.
#include <algorithm>
#include <cmath>

#include "chamfer/chamfer.h"
#include "common/parallel.h"
#include "common/simd.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr int kTile = kLanes == 16 ? 8 : 4;  // points of the first cloud at once: two accumulators each
constexpr std::int64_t kGroup = 8 * kLanes;  // points of the second cloud that share a group
constexpr std::int64_t kFewClouds = 8;       // with fewer, the first cloud is cut too

// One pair of clouds, ready to be searched: points that do not count are infinitely far from everything. Coordinates
// are scaled by the roots of the weights.
struct Pair {
  float* tiles;    // (tiles, d, kTile) of the first cloud
  float* columns;  // (d, ld) of the second cloud
  std::int64_t tile_count, ld, groups;
};

struct Plan {
  std::int64_t tile_count, ld, groups, ranges, range_tiles;

  explicit Plan(const ChamferProblem& problem)
      : tile_count(ceil_div(problem.n[0], kTile)),
        ld(round_up(problem.n[1], kGroup)),
        groups(ld / kGroup),
        ranges(std::clamp<std::int64_t>(ceil_div(kFewClouds, std::max<std::int64_t>(problem.b, 1)), 1,
                                        std::max<std::int64_t>(tile_count, 1))),
        range_tiles(ceil_div(tile_count, ranges)) {}

  std::int64_t pair_floats(std::int64_t d) const { return d * (round_up(tile_count * kTile, 16) + ld); }
};

Pair pair_in(float* memory, const Plan& plan, std::int64_t d) {
  return {memory, memory + d * round_up(plan.tile_count * kTile, 16), plan.tile_count, plan.ld, plan.groups};
}

const bool* mask_of(const ChamferProblem& problem, int side, std::int64_t cloud) {
  return problem.mask[side] == nullptr ? nullptr : problem.mask[side] + cloud * problem.n[side];
}

const float* points_of(const ChamferProblem& problem, int side, std::int64_t cloud) {
  return problem.points[side] + cloud * problem.n[side] * problem.d;
}

void prepare(const ChamferProblem& problem, std::int64_t cloud, const Pair& pair) {
  const std::int64_t d = problem.d;
  std::fill_n(pair.tiles, pair.tile_count * kTile * d, INFINITY);
  std::fill_n(pair.columns, pair.ld * d, INFINITY);
  for (int side = 0; side < 2; ++side) {
    const bool* const mask = mask_of(problem, side, cloud);
    const float* const points = points_of(problem, side, cloud);
    for (std::int64_t c = 0; c < d; ++c) {
      const float scale = problem.weights == nullptr ? 1.0f : std::sqrt(problem.weights[c]);
      for (std::int64_t i = 0; i < problem.n[side]; ++i) {
        if (mask != nullptr && !mask[i]) continue;
        float& target = side == 0 ? pair.tiles[(i / kTile * d + c) * kTile + i % kTile] : pair.columns[c * pair.ld + i];
        target = scale * points[i * d + c];
      }
    }
  }
}

// Squared distances of a tile's points to 2 * kLanes points of the second cloud from `column` on.
SKELKERN_INLINE void tile_distances(const Pair& pair, std::int64_t d, std::int64_t tile, std::int64_t column,
                                    Vec (&sums)[kTile][2]) {
#pragma GCC unroll 8
  for (int i = 0; i < kTile; ++i) sums[i][0] = Vec{}, sums[i][1] = Vec{};
  const float* own = pair.tiles + tile * d * kTile;
  for (std::int64_t c = 0; c < d; ++c, own += kTile) {
    const Vec left = load(pair.columns + c * pair.ld + column),
              right = load(pair.columns + c * pair.ld + column + kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kTile; ++i) {
      const Vec value = splat(own[i]);
      sums[i][0] += (left - value) * (left - value);
      sums[i][1] += (right - value) * (right - value);
    }
  }
}

SKELKERN_INLINE Vec smaller(Vec a, Vec b) { return a < b ? a : b; }  // b where a is NaN

// What the points of the second cloud have found so far: (ld) each.
struct Columns {
  float* least;
  std::int32_t* tile;
};

// What a tile has found in each lane.
struct Rows {
  Vec least[kTile];
  IntVec group[kTile];
};

// One tile against one group of the second cloud.
SKELKERN_INLINE void search_group(const Pair& pair, std::int64_t d, std::int64_t tile, std::int64_t group, Rows* rows,
                                  const Columns& columns) {
  Vec least[kTile];
#pragma GCC unroll 8
  for (int i = 0; i < kTile; ++i) least[i] = splat(INFINITY);
  for (std::int64_t column = group * kGroup; column < (group + 1) * kGroup; column += 2 * kLanes) {
    Vec sums[kTile][2];
    tile_distances(pair, d, tile, column, sums);
    Vec of_columns[2] = {splat(INFINITY), splat(INFINITY)};
#pragma GCC unroll 8
    for (int i = 0; i < kTile; ++i) {
      least[i] = smaller(sums[i][0], smaller(sums[i][1], least[i]));
      for (int half = 0; half < 2; ++half) of_columns[half] = smaller(sums[i][half], of_columns[half]);
    }
    for (int half = 0; half < 2; ++half) {
      float* const place = columns.least + column + half * kLanes;
      std::int32_t* const tile_place = columns.tile + column + half * kLanes;
      const Vec before = load(place);
      const IntVec nearer = of_columns[half] < before;
      IntVec tiles;
      std::memcpy(&tiles, tile_place, sizeof tiles);
      tiles = nearer ? IntVec{} + static_cast<std::int32_t>(tile) : tiles;
      store(place, nearer ? of_columns[half] : before);
      std::memcpy(tile_place, &tiles, sizeof tiles);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kTile; ++i) {
    const IntVec nearer = least[i] < rows->least[i];
    rows->least[i] = nearer ? least[i] : rows->least[i];
    rows->group[i] = nearer ? IntVec{} + static_cast<std::int32_t>(group) : rows->group[i];
  }
}

// The smallest of the lanes and, of equal ones, the one with the smallest number.
SKELKERN_INLINE std::int32_t first_least(Vec values, IntVec numbers) {
  Vec least = values;
  IntVec number = numbers;
#pragma GCC unroll 4
  for (int width = kLanes / 2; width > 0; width /= 2) {
    const IntVec partner = lane_numbers() ^ width;
    const Vec other = __builtin_shuffle(least, partner);
    const IntVec other_number = __builtin_shuffle(number, partner);
    const IntVec take = (other < least) | ((other == least) & (other_number < number));
    least = take ? other : least;
    number = take ? other_number : number;
  }
  return number[0];
}

// The point of a group of the second cloud that is nearest to point i of the tile.
std::int32_t nearest_of_group(const Pair& pair, std::int64_t d, std::int64_t tile, int i, std::int64_t group) {
  const float* const own = pair.tiles + tile * d * kTile + i;
  Vec least = splat(INFINITY);
  IntVec number = IntVec{} + static_cast<std::int32_t>(pair.ld);
  for (std::int64_t column = group * kGroup; column < (group + 1) * kGroup; column += kLanes) {
    Vec sum{};
    for (std::int64_t c = 0; c < d; ++c) {
      const Vec difference = load(pair.columns + c * pair.ld + column) - splat(own[c * kTile]);
      sum += difference * difference;
    }
    const IntVec nearer = sum < least;
    least = nearer ? sum : least;
    number = nearer ? lane_numbers() + static_cast<std::int32_t>(column) : number;
  }
  return first_least(least, number);
}

// The nearest of the second cloud to each point of a tile: indices (kTile), -1 where no distance is finite.
void finish_rows(const Pair& pair, std::int64_t d, std::int64_t tile, const Rows& rows, std::int32_t* indices) {
  for (int i = 0; i < kTile; ++i) {
    const bool any = lanes_at_most(rows.least[i], splat(__FLT_MAX__)) != 0;
    const std::int64_t group = first_least(rows.least[i], rows.group[i]);
    indices[i] = any ? nearest_of_group(pair, d, tile, i, group) : -1;
  }
}

// Tiles [first, last) of the first cloud against the whole second cloud. indices (n[0]) of the cloud's first side.
void search(const ChamferProblem& problem, const Pair& pair, std::int64_t first, std::int64_t last,
            std::int32_t* indices, const Columns& columns) {
  std::fill_n(columns.least, pair.ld, INFINITY);
  std::fill_n(columns.tile, pair.ld, 0);
  for (std::int64_t tile = first; tile < last; ++tile) {
    Rows rows;
    for (int i = 0; i < kTile; ++i) rows.least[i] = splat(INFINITY), rows.group[i] = IntVec{};
    for (std::int64_t group = 0; group < pair.groups; ++group)
      search_group(pair, problem.d, tile, group, &rows, columns);
    std::int32_t found[kTile];
    finish_rows(pair, problem.d, tile, rows, found);
    const std::int64_t start = tile * kTile;
    std::copy_n(found, std::min<std::int64_t>(kTile, problem.n[0] - start), indices + start);
  }
}

// The nearest of the first cloud to point j of the second: of `count` ranges' findings, `stride` apart, the first
// least.
std::int32_t finish_column(const Pair& pair, std::int64_t d, std::int64_t j, const Columns& columns, std::int64_t count,
                           std::int64_t stride) {
  float least = INFINITY;
  std::int64_t tile = 0;
  for (std::int64_t range = 0; range < count; ++range)
    if (columns.least[range * stride + j] < least)
      least = columns.least[range * stride + j], tile = columns.tile[range * stride + j];
  if (!(least < INFINITY)) return -1;
  float sums[kTile] = {};
  const float* own = pair.tiles + tile * d * kTile;
  for (std::int64_t c = 0; c < d; ++c, own += kTile)
    for (int i = 0; i < kTile; ++i) {
      const float difference = pair.columns[c * pair.ld + j] - own[i];
      sums[i] += difference * difference;
    }
  int nearest = 0;
  float distance = INFINITY;
  for (int i = 0; i < kTile; ++i)
    if (sums[i] < distance) distance = sums[i], nearest = i;
  return static_cast<std::int32_t>(tile) * kTile + nearest;
}

float squared_distance(const ChamferProblem& problem, const float* a, const float* b) {
  float sum = 0.0f;
  for (std::int64_t c = 0; c < problem.d; ++c) {
    const float difference = a[c] - b[c];
    sum += (problem.weights == nullptr ? 1.0f : problem.weights[c]) * difference * difference;
  }
  return sum;
}

// Turns the indices of one side of a pair of clouds into distances. An index of -1 becomes the first point that counts:
// no distance is finite, whichever is taken.
void measure(const ChamferProblem& problem, int side, std::int64_t cloud, const ChamferNearest& nearest) {
  const bool* const mask = mask_of(problem, side, cloud);
  const bool* const other_mask = mask_of(problem, 1 - side, cloud);
  const std::int64_t others = problem.n[1 - side];
  const std::int64_t any = other_mask == nullptr ? 0 : std::find(other_mask, other_mask + others, true) - other_mask;
  const float* const points = points_of(problem, side, cloud);
  for (std::int64_t i = 0; i < problem.n[side]; ++i) {
    std::int32_t& index = nearest.indices[side][cloud * problem.n[side] + i];
    float& distance = nearest.distances[side][cloud * problem.n[side] + i];
    if (any == others || (mask != nullptr && !mask[i])) {
      index = -1;
      distance = 0.0f;
      continue;
    }
    if (index < 0) index = static_cast<std::int32_t>(any);
    distance =
        squared_distance(problem, points + i * problem.d, points_of(problem, 1 - side, cloud) + index * problem.d);
    if (!problem.squared) distance = std::sqrt(distance);
  }
}

bool forward(const ChamferProblem& problem, const ChamferNearest& nearest) {
  const Plan plan(problem);
  // For each cloud: the prepared pair, then what each range's columns have found.
  const std::int64_t columns_floats = 2 * plan.ld, pair_floats = plan.pair_floats(problem.d);
  const std::int64_t cloud_floats = pair_floats + plan.ranges * columns_floats;
  float* const memory = thread_scratch(Slot::workspace, static_cast<std::size_t>(problem.b * cloud_floats));
  if (memory == nullptr) return false;
  const auto pair_of = [&](std::int64_t cloud) { return pair_in(memory + cloud * cloud_floats, plan, problem.d); };
  const auto columns_of = [&](std::int64_t cloud, std::int64_t range) {
    float* const own = memory + cloud * cloud_floats + pair_floats + range * columns_floats;
    return Columns{own, reinterpret_cast<std::int32_t*>(own + plan.ld)};
  };
  return parallel_chunks(problem.b, problem.threads, 0,
                         [&](std::int64_t cloud, float*) { prepare(problem, cloud, pair_of(cloud)); }) &&
         parallel_chunks(problem.b * plan.ranges, problem.threads, 0,
                         [&](std::int64_t task, float*) {
                           const std::int64_t cloud = task / plan.ranges, range = task % plan.ranges;
                           const std::int64_t first = range * plan.range_tiles;
                           search(problem, pair_of(cloud), first, std::min(plan.tile_count, first + plan.range_tiles),
                                  nearest.indices[0] + cloud * problem.n[0], columns_of(cloud, range));
                         }) &&
         parallel_chunks(problem.b, problem.threads, 0, [&](std::int64_t cloud, float*) {
           for (std::int64_t j = 0; j < problem.n[1]; ++j)
             nearest.indices[1][cloud * problem.n[1] + j] =
                 finish_column(pair_of(cloud), problem.d, j, columns_of(cloud, 0), plan.ranges, columns_floats);
           for (int side = 0; side < 2; ++side) measure(problem, side, cloud, nearest);
         });
}

// Adds the gradients of one side's distances to both clouds' gradients.
void add_gradients(const ChamferProblem& problem, const ChamferNearest& nearest, int side, std::int64_t cloud,
                   const float* distance_gradients, float* const gradients[2]) {
  const std::int64_t d = problem.d, n = problem.n[side];
  const float* const points = points_of(problem, side, cloud);
  const float* const others = points_of(problem, 1 - side, cloud);
  float* const own = gradients[side] + cloud * n * d;
  float* const other = gradients[1 - side] + cloud * problem.n[1 - side] * d;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t j = nearest.indices[side][cloud * n + i];
    if (j < 0) continue;
    const float distance = nearest.distances[side][cloud * n + i];
    const float scale = problem.squared ? 2.0f : distance == 0.0f ? 0.0f : 1.0f / distance;
    for (std::int64_t c = 0; c < d; ++c) {
      const float weight = problem.weights == nullptr ? 1.0f : problem.weights[c];
      const float step = distance_gradients[cloud * n + i] * scale * weight * (points[i * d + c] - others[j * d + c]);
      own[i * d + c] += step;
      other[j * d + c] -= step;
    }
  }
}

bool backward(const ChamferProblem& problem, const ChamferNearest& nearest, const float* const distance_gradients[2],
              float* const gradients[2]) {
  return parallel_chunks(problem.b, problem.threads, 0, [&](std::int64_t cloud, float*) {
    for (int side = 0; side < 2; ++side)
      std::fill_n(gradients[side] + cloud * problem.n[side] * problem.d, problem.n[side] * problem.d, 0.0f);
    for (int side = 0; side < 2; ++side)
      add_gradients(problem, nearest, side, cloud, distance_gradients[side], gradients);
  });
}

}  // namespace

extern const Chamfer chamfer;
const Chamfer chamfer{forward, backward};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
