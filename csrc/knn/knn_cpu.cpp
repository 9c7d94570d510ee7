// A task makes the values that order the points of a cloud for a few of them, and selects from each row. Up to 8
// dimensions the values are squared distances, made by subtraction; beyond, |x_j|^2 / 2 - <x_i, x_j> of the centred
// cloud, a matrix product. That is symmetric: where there are clouds enough for all threads, a task is a whole cloud
// and makes half of it; the other way has the same bits.
#include <cmath>

#include "common/parallel.h"
#include "common/tile.h"
#include "knn/knn.h"
#include "knn/select.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kSubtracted = 8;                  // most dimensions whose differences are formed
constexpr std::int64_t kRows = 32;                       // points of a task
constexpr std::int64_t kPanel = 240;                     // columns of a product whose operand stays in L2
constexpr std::int64_t kClouds = 4;                      // prepared at a time
constexpr std::int64_t kMostTriangle = 4 * 1024 * 1024;  // floats
constexpr int kQueries = 4;                              // rows of values made at once by subtraction

struct Plan {
  std::int64_t length;  // of a row of values, n padded
  std::int64_t ld;      // leading dimension of (*, length) arrays
  std::int64_t row_blocks;
  bool expanded, symmetric;

  explicit Plan(const KnnProblem& problem)
      : length(round_up(problem.n, kGroups)),
        ld(padded(length)),
        row_blocks(ceil_div(problem.n, kRows)),
        expanded(problem.d > kSubtracted),
        symmetric(expanded && problem.b >= problem.threads && triangle_floats() <= kMostTriangle) {}

  // Tiles of products, kRows later points by kRows earlier ones.
  std::int64_t tile_offset(std::int64_t later, std::int64_t block) const {
    return kRows * kRows * (later * (later - 1) / 2 + block);
  }
  std::int64_t triangle_floats() const { return tile_offset(row_blocks, 0); }

  std::int64_t cloud_floats(std::int64_t d) const { return (d + 1) * ld; }
  std::int64_t scratch_floats(std::int64_t k) const {
    return (expanded ? kRows : kQueries) * ld + 3 * Candidates::room(k);
  }
};

// A prepared cloud: coordinates (d, ld), of points that do not count 0, centred where `expanded`; offsets (ld) to be
// added to each value, infinite for points that do not count.
struct Cloud {
  const float* coordinates;
  const float* offsets;
};

// A centre of the coordinate's range, rounded to a power of two of about the range's size: differences from it are as
// exact as the coordinates are, on an integer lattice without any error.
float round_centre(float low, float high) {
  if (!(high > low)) return low <= high ? low : 0.0f;
  const float step = std::exp2(std::floor(std::log2(high - low)));
  const float centre = std::rint((low + (high - low) / 2) / step) * step;
  return std::isfinite(centre) ? centre : 0.0f;
}

void centre(float* coordinate, const bool* mask, std::int64_t n) {
  float low = INFINITY, high = -INFINITY;
  for (std::int64_t i = 0; i < n; ++i) {
    if (mask != nullptr && !mask[i]) continue;
    low = coordinate[i] < low ? coordinate[i] : low;
    high = coordinate[i] > high ? coordinate[i] : high;
  }
  const float middle = round_centre(low, high);
  for (std::int64_t i = 0; i < n; ++i) coordinate[i] -= middle;
}

// target (d + 1, ld) becomes the arrays of a Cloud.
void prepare(const KnnProblem& problem, const Plan& plan, std::int64_t cloud, float* target) {
  const bool* const mask = problem.mask == nullptr ? nullptr : problem.mask + cloud * problem.n;
  float* const offsets = target + problem.d * plan.ld;
  transpose(problem.points + cloud * problem.n * problem.d, problem.d, problem.n, problem.d, target, plan.ld);
  std::fill_n(offsets, plan.ld, 0.0f);
  for (std::int64_t d = 0; d < problem.d; ++d) {
    float* const coordinate = target + d * plan.ld;
    std::fill(coordinate + problem.n, coordinate + plan.ld, 0.0f);
    if (!plan.expanded) continue;
    centre(coordinate, mask, problem.n);
    for (std::int64_t i = 0; i < plan.ld; i += kLanes)
      store(offsets + i, load(offsets + i) + splat(0.5f) * load(coordinate + i) * load(coordinate + i));
  }
  std::fill(offsets + problem.n, offsets + plan.ld, INFINITY);
  for (std::int64_t i = 0; mask != nullptr && i < problem.n; ++i) {
    if (mask[i]) continue;
    offsets[i] = INFINITY;
    for (std::int64_t d = 0; d < problem.d; ++d) target[d * plan.ld + i] = 0.0f;
  }
}

// Squared distances of kQueries points from `first` on, or of fewer at the end, to all points: rows (kQueries, ld).
void subtract(const KnnProblem& problem, const Plan& plan, const Cloud& cloud, std::int64_t first, float* rows) {
  for (std::int64_t i = 0; i < plan.length; i += 2 * kLanes) {
    Vec sums[kQueries][2];
#pragma GCC unroll 4
    for (int query = 0; query < kQueries; ++query)
      sums[query][0] = load(cloud.offsets + i), sums[query][1] = load(cloud.offsets + i + kLanes);
    for (std::int64_t d = 0; d < problem.d; ++d) {
      const float* const coordinate = cloud.coordinates + d * plan.ld;
      const Vec left = load(coordinate + i), right = load(coordinate + i + kLanes);
#pragma GCC unroll 4
      for (int query = 0; query < kQueries; ++query) {
        const Vec own = splat(coordinate[first + query]);
        sums[query][0] += (left - own) * (left - own);
        sums[query][1] += (right - own) * (right - own);
      }
    }
#pragma GCC unroll 4
    for (int query = 0; query < kQueries; ++query) {
      store(rows + query * plan.ld + i, sums[query][0]);
      store(rows + query * plan.ld + i + kLanes, sums[query][1]);
    }
  }
}

// <x_i, x_j> for `count` points i from `first` on and all j from `column` on: rows (count, ld).
void multiply(const KnnProblem& problem, const Plan& plan, const Cloud& cloud, std::int64_t first, std::int64_t count,
              std::int64_t column, float* rows) {
  const std::int64_t columns = round_up(problem.n, kLanes);
  for (; column < columns; column += kPanel)
    product({cloud.coordinates + first, 1, plan.ld, cloud.coordinates + column, plan.ld, rows + column, plan.ld,
             problem.d, false},
            count, std::min(kPanel, columns - column));
}

// rows (count, ld) = offsets - rows, from column `first` on; infinite behind the cloud's end.
void finish(const KnnProblem& problem, const Plan& plan, const Cloud& cloud, std::int64_t first, std::int64_t count,
            float* rows) {
  const std::int64_t columns = round_up(problem.n, kLanes);
  for (std::int64_t row = 0; row < count; ++row) {
    float* const values = rows + row * plan.ld;
    for (std::int64_t i = first; i < columns; i += kLanes)
      store(values + i, load(cloud.offsets + i) - load(values + i));
    std::fill(values + columns, values + plan.length, INFINITY);
  }
}

// Columns [first, first + kRows) of rows (count, ld) = offsets - tile (count, kRows).
void finish_tile(const Plan& plan, const Cloud& cloud, const float* tile, std::int64_t first, std::int64_t count,
                 float* rows) {
  for (std::int64_t row = 0; row < count; ++row)
    for (std::int64_t i = 0; i < kRows; i += kLanes)
      store(rows + row * plan.ld + first + i, load(cloud.offsets + first + i) - load(tile + row * kRows + i));
}

// The points of one cloud for which neighbours are wanted.
struct Selection {
  const KnnProblem& problem;
  const Plan& plan;
  const bool* mask;         // (n) or nullptr
  std::int64_t valid;       // points that count
  std::int64_t* neighbors;  // (n, k)

  void of(std::int64_t point, float* row, const Candidates& candidates) const {
    std::int64_t* const own = neighbors + point * problem.k;
    if (mask != nullptr && !mask[point]) {
      std::fill_n(own, problem.k, point);
      return;
    }
    const std::int64_t found = std::min(problem.k, valid);
    select(row, plan.length, problem.n, mask, found, candidates, own);
    std::fill(own + found, own + problem.k, own[found - 1]);
  }
};

Candidates candidates_in(float* scratch, std::int64_t k) {
  const std::int64_t room = Candidates::room(k);
  std::int32_t* const places = reinterpret_cast<std::int32_t*>(scratch);
  return {places, places + room, places + 2 * room};
}

// The neighbours of the points [first, last). scratch of plan.scratch_floats().
void neighbors_of_rows(const Selection& selection, const Cloud& cloud, std::int64_t first, std::int64_t last,
                       float* scratch) {
  const KnnProblem& problem = selection.problem;
  const Plan& plan = selection.plan;
  const Candidates candidates = candidates_in(scratch, problem.k);
  float* const rows = scratch + 3 * Candidates::room(problem.k);
  const std::int64_t step = plan.expanded ? kRows : kQueries;
  for (std::int64_t start = first; start < last; start += step) {
    const std::int64_t count = std::min(step, last - start);
    if (plan.expanded) {
      multiply(problem, plan, cloud, start, count, 0, rows);
      finish(problem, plan, cloud, 0, count, rows);
    } else {
      subtract(problem, plan, cloud, start, rows);
    }
    for (std::int64_t i = 0; i < count; ++i) selection.of(start + i, rows + i * plan.ld, candidates);
  }
}

// The neighbours of all points. triangle of plan.triangle_floats(), scratch of plan.scratch_floats().
void neighbors_of_cloud(const Selection& selection, const Cloud& cloud, float* triangle, float* scratch) {
  const KnnProblem& problem = selection.problem;
  const Plan& plan = selection.plan;
  const Candidates candidates = candidates_in(scratch, problem.k);
  float* const rows = scratch + 3 * Candidates::room(problem.k);
  for (std::int64_t block = 0; block < plan.row_blocks; ++block) {
    const std::int64_t first = block * kRows, count = std::min(kRows, problem.n - first);
    multiply(problem, plan, cloud, first, count, first, rows);
    for (std::int64_t later = block + 1; later < plan.row_blocks; ++later)
      transpose(rows + later * kRows, plan.ld, count, std::min(kRows, problem.n - later * kRows),
                triangle + plan.tile_offset(later, block), kRows);
    for (std::int64_t earlier = 0; earlier < block; ++earlier)
      finish_tile(plan, cloud, triangle + plan.tile_offset(block, earlier), earlier * kRows, count, rows);
    finish(problem, plan, cloud, first, count, rows);
    for (std::int64_t i = 0; i < count; ++i) selection.of(first + i, rows + i * plan.ld, candidates);
  }
}

Selection selection_of(const KnnProblem& problem, const Plan& plan, std::int64_t cloud, std::int64_t* neighbors) {
  const bool* const mask = problem.mask == nullptr ? nullptr : problem.mask + cloud * problem.n;
  const std::int64_t valid = mask == nullptr ? problem.n : std::count(mask, mask + problem.n, true);
  return {problem, plan, mask, valid, neighbors + cloud * problem.n * problem.k};
}

bool run_by_clouds(const KnnProblem& problem, const Plan& plan, std::int64_t* neighbors) {
  const std::int64_t cloud_floats = plan.cloud_floats(problem.d);
  const std::int64_t floats = cloud_floats + plan.triangle_floats() + plan.scratch_floats(problem.k);
  return parallel_chunks(
      problem.b, problem.threads, static_cast<std::size_t>(floats), [&](std::int64_t cloud, float* memory) {
        prepare(problem, plan, cloud, memory);
        float* const triangle = memory + cloud_floats;
        neighbors_of_cloud(selection_of(problem, plan, cloud, neighbors), {memory, memory + problem.d * plan.ld},
                           triangle, triangle + plan.triangle_floats());
      });
}

bool run_by_rows(const KnnProblem& problem, const Plan& plan, std::int64_t* neighbors) {
  const std::int64_t cloud_floats = plan.cloud_floats(problem.d), held = std::min(kClouds, problem.b);
  float* const prepared = thread_scratch(Slot::workspace, static_cast<std::size_t>(held * cloud_floats));
  if (prepared == nullptr) return false;
  for (std::int64_t start = 0; start < problem.b; start += kClouds) {
    const std::int64_t clouds = std::min(kClouds, problem.b - start);
    const auto prepare_one = [&](std::int64_t i, float*) {
      prepare(problem, plan, start + i, prepared + i * cloud_floats);
    };
    const auto find_rows = [&](std::int64_t task, float* scratch) {
      const std::int64_t cloud = task / plan.row_blocks, first = task % plan.row_blocks * kRows;
      const float* const own = prepared + cloud * cloud_floats;
      neighbors_of_rows(selection_of(problem, plan, start + cloud, neighbors), {own, own + problem.d * plan.ld}, first,
                        std::min(problem.n, first + kRows), scratch);
    };
    const auto scratch_floats = static_cast<std::size_t>(plan.scratch_floats(problem.k));
    if (!parallel_chunks(clouds, problem.threads, 0, prepare_one) ||
        !parallel_chunks(clouds * plan.row_blocks, problem.threads, scratch_floats, find_rows))
      return false;
  }
  return true;
}

bool run(const KnnProblem& problem, std::int64_t* neighbors) {
  const Plan plan(problem);
  return (plan.symmetric ? run_by_clouds : run_by_rows)(problem, plan, neighbors);
}

}  // namespace

extern const Knn knn;
const Knn knn{run};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
