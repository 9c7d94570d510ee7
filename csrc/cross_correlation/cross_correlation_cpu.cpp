// Work is cut into chunks of a few features of all samples, which stay in the first caches: batch statistics and
// gradients are vertical sums in them, and every product has such a chunk as its right operand.
#include <algorithm>
#include <cmath>
#include <utility>

#include "common/parallel.h"
#include "common/tile.h"
#include "cross_correlation/cross_correlation.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kFeatures = 48;            // features of a chunk: whole register tiles at every level
constexpr std::int64_t kPanelFloats = 96 * 1024;  // a panel of transposed features stays in L2
constexpr std::int64_t kRows = 16;                // rows of a symmetric product that share their first column
constexpr std::int64_t kRowsOfTask = 64;          // rows of a product merged or computed by one task

// The arrays of `saved` by name; `side` is 0 for z1, 1 for z2.
struct Statistics {
  float *mean[2], *inverse_std[2], *diagonal;  // (d) each

  Statistics(const CrossCorrelationSaved& saved, std::int64_t d)
      : mean{saved.statistics, saved.statistics + d},
        inverse_std{saved.statistics + 2 * d, saved.statistics + 3 * d},
        diagonal(saved.statistics + 4 * d) {}
};

// Features [first, first + columns) of all samples, columns <= kFeatures.
struct Chunk {
  std::int64_t first, columns;

  Chunk(std::int64_t index, std::int64_t d)
      : first(index * kFeatures), columns(std::min(kFeatures, d - index * kFeatures)) {}

  int lanes(std::int64_t column) const { return static_cast<int>(std::min<std::int64_t>(kLanes, columns - column)); }
};

// Asks for a chunk's lines of array (n, d) while other work goes on: its rows lie pages apart.
template <int WRITE>
void prefetch(const float* array, const CrossCorrelationInputs& in, std::int64_t index) {
  const Chunk chunk(index, in.d);
  for (std::int64_t row = 0; row < in.n; ++row)
    for (std::int64_t column = 0; column < chunk.columns; column += 16)
      __builtin_prefetch(array + row * in.d + chunk.first + column, WRITE);
}

void prefetch_inputs(const CrossCorrelationInputs& in, std::int64_t index) {
  for (int side = 0; side < 2; ++side) prefetch<0>(in.z[side], in, index);
}

bool use_gram(const CrossCorrelationInputs& in) { return in.n < in.d; }

// Copies a chunk of z (n, d) into target (n, ld), centred and scaled by known statistics; columns are padded with
// zeros.
void standardise(const CrossCorrelationInputs& in, const Statistics& statistics, int side, Chunk chunk, float* target,
                 std::int64_t ld) {
  for (std::int64_t column = 0; column < chunk.columns; column += kLanes) {
    const int lanes = chunk.lanes(column);
    const std::int64_t feature = chunk.first + column;
    const Vec mean = load_part(statistics.mean[side] + feature, lanes);
    const Vec inverse_std = load_part(statistics.inverse_std[side] + feature, lanes);
    for (std::int64_t row = 0; row < in.n; ++row)
      store(target + row * ld + column, (load_part(in.z[side] + row * in.d + feature, lanes) - mean) * inverse_std);
  }
}

// COLS vectors of features at `column`: as many independent sums, which hide the latency of an addition.
template <int COLS>
void measure_columns(const CrossCorrelationInputs& in, const Statistics& statistics, int side, Chunk chunk,
                     std::int64_t column, float* target, std::int64_t ld) {
  const std::int64_t feature = chunk.first + column;
  const Vec inverse_n = splat(1.0f / static_cast<float>(in.n));
  Vec sum[COLS] = {}, mean[COLS], squares[COLS] = {}, inverse_std[COLS];
  for (std::int64_t row = 0; row < in.n; ++row)
#pragma GCC unroll 3
    for (int i = 0; i < COLS; ++i) {
      const int at = i * kLanes;
      const Vec value = load_part(in.z[side] + row * in.d + feature + at, chunk.lanes(column + at));
      store(target + row * ld + column + at, value);
      sum[i] += value;
    }
  for (int i = 0; i < COLS; ++i) mean[i] = sum[i] * inverse_n;
  for (std::int64_t row = 0; row < in.n; ++row)
#pragma GCC unroll 3
    for (int i = 0; i < COLS; ++i) {
      const Vec centred = load(target + row * ld + column + i * kLanes) - mean[i];
      squares[i] += centred * centred;
    }
  for (int i = 0; i < COLS; ++i) {
    for (int lane = 0; lane < kLanes; ++lane)
      inverse_std[i][lane] = 1.0f / std::sqrt(squares[i][lane] * inverse_n[0] + in.eps);
    store_part(statistics.mean[side] + feature + i * kLanes, mean[i], chunk.lanes(column + i * kLanes));
    store_part(statistics.inverse_std[side] + feature + i * kLanes, inverse_std[i], chunk.lanes(column + i * kLanes));
  }
  for (std::int64_t row = 0; row < in.n; ++row)
#pragma GCC unroll 3
    for (int i = 0; i < COLS; ++i) {
      float* const place = target + row * ld + column + i * kLanes;
      store(place, (load(place) - mean[i]) * inverse_std[i]);
    }
}

// Copies a chunk of z (n, d) into target (n, ld), standardised; columns are padded with zeros.
void measure_and_standardise(const CrossCorrelationInputs& in, const Statistics& statistics, int side, Chunk chunk,
                             float* target, std::int64_t ld) {
  std::int64_t column = 0;
  for (; column + 3 * kLanes <= chunk.columns; column += 3 * kLanes)
    measure_columns<3>(in, statistics, side, chunk, column, target, ld);
  for (; column < chunk.columns; column += kLanes) measure_columns<1>(in, statistics, side, chunk, column, target, ld);
}

// Standardises a chunk of both sides into targets (n, ld) and measures C_ii.
void measure_pair(const CrossCorrelationInputs& in, const Statistics& statistics, Chunk chunk, float* const targets[2],
                  std::int64_t ld) {
  for (int side = 0; side < 2; ++side) measure_and_standardise(in, statistics, side, chunk, targets[side], ld);
  const float inverse_n = 1.0f / static_cast<float>(in.n);
  for (std::int64_t column = 0; column < chunk.columns; column += kLanes) {
    Vec sum{};
    for (std::int64_t row = 0; row < in.n; ++row)
      sum += load(targets[0] + row * ld + column) * load(targets[1] + row * ld + column);
    store_part(statistics.diagonal + chunk.first + column, sum * inverse_n, chunk.lanes(column));
  }
}

// Partial Gram matrices: features are cut into groups, and each group's sum of outer products stands on its own.
struct GramPlan {
  std::int64_t ld;  // leading dimension of (*, n) arrays
  std::int64_t
      group_features;  // a multiple of kFeatures; at least n, so that partial sums stay smaller than the inputs
  std::int64_t groups;
  std::int64_t panel_features;  // a multiple of kFeatures

  explicit GramPlan(const CrossCorrelationInputs& in)
      : ld(padded(in.n)),
        group_features(round_up(std::max<std::int64_t>(in.n, 10 * kFeatures), kFeatures)),
        groups(ceil_div(in.d, group_features)),
        panel_features(std::clamp(kPanelFloats / ld / kFeatures * kFeatures, kFeatures, group_features)) {}

  std::int64_t matrix() const { return ld * ld; }
  std::int64_t scratch_floats(std::int64_t n) const { return 2 * n * kFeatures + 2 * panel_features * ld; }
};

// The upper triangle, in blocks of kRows, of gram (n, ld) = [gram +] panel^T panel; panel (features, ld).
void add_outer_products(const float* panel, std::int64_t features, std::int64_t n, std::int64_t ld, bool accumulate,
                        float* gram) {
  for (std::int64_t row = 0; row < n; row += kRows) {
    const Product rows{panel + row, 1, ld, panel + row, ld, gram + row * ld + row, ld, features, accumulate};
    product(rows, std::min(kRows, n - row), round_up(n - row, kLanes));
  }
}

// Upper triangles of both sides' Gram matrices of one group, into partial (2, n, ld).
void gram_of_group(const CrossCorrelationInputs& in, const Statistics& statistics, const GramPlan& plan,
                   std::int64_t group, float* scratch, float* partial) {
  float* rows[2] = {scratch, scratch + in.n * kFeatures};  // (n, kFeatures) standardised
  float* panels[2] = {rows[1] + in.n * kFeatures, rows[1] + in.n * kFeatures + plan.panel_features * plan.ld};
  for (std::int64_t f = 0; f < 2 * plan.panel_features; ++f)
    std::fill(panels[0] + f * plan.ld + in.n, panels[0] + (f + 1) * plan.ld, 0.0f);
  const std::int64_t start = group * plan.group_features, end = std::min(in.d, start + plan.group_features);
  for (std::int64_t first = start; first < end; first += plan.panel_features) {
    const std::int64_t features = std::min(plan.panel_features, end - first);
    for (std::int64_t f = 0; f < features; f += kFeatures) {
      const Chunk chunk((first + f) / kFeatures, in.d);
      prefetch_inputs(in, chunk.first / kFeatures + 1);
      measure_pair(in, statistics, chunk, rows, kFeatures);
      for (int side = 0; side < 2; ++side)
        transpose(rows[side], kFeatures, in.n, chunk.columns, panels[side] + f * plan.ld, plan.ld);
    }
    for (int side = 0; side < 2; ++side)
      add_outer_products(panels[side], features, in.n, plan.ld, first > start, partial + side * plan.matrix());
  }
}

// Adds the groups' partial sums in order for rows [first, last) and writes them, mirrored too, to gram (n, n).
void merge_groups(const float* partial, const GramPlan& plan, std::int64_t n, std::int64_t first, std::int64_t last,
                  float* sum, float* gram) {
  for (std::int64_t row = first; row < last; ++row) {
    const std::int64_t start = row / kRows * kRows;
    for (std::int64_t column = start; column < n; column += kLanes) {
      Vec total = load(partial + row * plan.ld + column);
      for (std::int64_t group = 1; group < plan.groups; ++group)
        total += load(partial + 2 * group * plan.matrix() + row * plan.ld + column);
      store(sum + (row - first) * plan.ld + column, total);
    }
    std::copy(sum + (row - first) * plan.ld + start, sum + (row - first) * plan.ld + n, gram + row * n + start);
  }
  for (std::int64_t row = first; row < last; row += kRows) {
    const std::int64_t rows = std::min(kRows, last - row), right = row + rows;
    if (right < n)
      transpose(sum + (row - first) * plan.ld + right, plan.ld, rows, n - right, gram + right * n + row, n);
  }
}

// Fills statistics and products (2, n, n).
bool gram_products(const CrossCorrelationInputs& in, const CrossCorrelationSaved& saved) {
  const Statistics statistics(saved, in.d);
  const GramPlan plan(in);
  float* partial = thread_scratch(Slot::workspace, static_cast<std::size_t>(2 * plan.groups * plan.matrix()));
  if (partial == nullptr) return false;
  const std::int64_t row_tasks = ceil_div(in.n, kRowsOfTask);
  return parallel_chunks(plan.groups, in.threads, static_cast<std::size_t>(plan.scratch_floats(in.n)),
                         [&](std::int64_t group, float* scratch) {
                           gram_of_group(in, statistics, plan, group, scratch, partial + 2 * group * plan.matrix());
                         }) &&
         parallel_chunks(2 * row_tasks, in.threads, static_cast<std::size_t>(kRowsOfTask * plan.ld),
                         [&](std::int64_t task, float* scratch) {
                           const std::int64_t side = task / row_tasks, first = task % row_tasks * kRowsOfTask;
                           merge_groups(partial + side * plan.matrix(), plan, in.n, first,
                                        std::min(in.n, first + kRowsOfTask), scratch,
                                        saved.products + side * in.n * in.n);
                         });
}

// Fills statistics and products (d, d).
bool feature_products(const CrossCorrelationInputs& in, const CrossCorrelationSaved& saved) {
  const Statistics statistics(saved, in.d);
  const std::int64_t ld = padded(in.d);
  float* z1 = thread_scratch(Slot::workspace, static_cast<std::size_t>(2 * in.n * ld));
  if (z1 == nullptr) return false;
  float* const z2 = z1 + in.n * ld;
  return parallel_chunks(ceil_div(in.d, kFeatures), in.threads, 0,
                         [&](std::int64_t index, float*) {
                           const Chunk chunk(index, in.d);
                           float* const targets[2] = {z1 + chunk.first, z2 + chunk.first};
                           measure_pair(in, statistics, chunk, targets, ld);
                         }) &&
         parallel_chunks(ceil_div(in.d, kRowsOfTask), in.threads, static_cast<std::size_t>(kRowsOfTask * ld),
                         [&](std::int64_t task, float* rows) {
                           const std::int64_t first = task * kRowsOfTask, count = std::min(kRowsOfTask, in.d - first);
                           product({z1 + first, 1, ld, z2, ld, rows, ld, in.n, false}, count, round_up(in.d, kLanes));
                           for (std::int64_t row = 0; row < count; ++row)
                             std::copy_n(rows + row * ld, in.d, saved.products + (first + row) * in.d);
                         });
}

// Summed in double: the sum of squares of C grows with d * d / n, its interesting part does not.
double total_loss(const CrossCorrelationInputs& in, const CrossCorrelationSaved& saved) {
  const Statistics statistics(saved, in.d);
  double on_diagonal = 0.0, diagonal_squares = 0.0, squares = 0.0;
  for (std::int64_t f = 0; f < in.d; ++f) {
    const double c = statistics.diagonal[f];
    on_diagonal += (1.0 - c) * (1.0 - c);
    diagonal_squares += c * c;
  }
  const std::int64_t size = use_gram(in) ? in.n : in.d;
  const float* other = saved.products + (use_gram(in) ? size * size : 0);
  for (std::int64_t row = 0; row < size; ++row) squares += dot(saved.products + row * size, other + row * size, size);
  const double n = static_cast<double>(in.n);
  return on_diagonal + in.off_diagonal_weight * (squares / n / n - diagonal_squares);
}

bool forward(const CrossCorrelationInputs& in, const CrossCorrelationSaved& saved, double* loss) {
  if (!(use_gram(in) ? gram_products(in, saved) : feature_products(in, saved))) return false;
  *loss = total_loss(in, saved);
  return true;
}

// Takes the gradient by the standardised chunk, `squares` (n, kFeatures) of the unscaled sum of squares plus the
// diagonal's part, back through the standardisation into gradient (n, d). own, other (n, ld): the chunk of this and the
// other side. The mean over the batch that the standardisation takes off a gradient is 0 here, because every term is a
// combination of centred columns.
void finish(const CrossCorrelationInputs& in, const Statistics& statistics, int side, Chunk chunk, float loss_gradient,
            const float* squares, const float* own, const float* other, std::int64_t ld, float* gradient) {
  const float n = static_cast<float>(in.n), weight = in.off_diagonal_weight, scale = 2.0f * weight / n / n;
  for (std::int64_t column = 0; column < chunk.columns; column += kLanes) {
    const int lanes = chunk.lanes(column);
    const std::int64_t feature = chunk.first + column;
    const Vec c = load_part(statistics.diagonal + feature, lanes);
    const Vec outer = load_part(statistics.inverse_std[side] + feature, lanes) * loss_gradient;
    const Vec diagonal = (-2.0f / n) * ((1.0f - c) + weight * c);
    Vec projection{};
    for (std::int64_t row = 0; row < in.n; ++row)
      projection += load(squares + row * kFeatures + column) * load(own + row * ld + column);
    const Vec of_squares = outer * scale, of_other = outer * diagonal;
    const Vec of_own = outer * (projection * (scale / n) + diagonal * c);
    for (std::int64_t row = 0; row < in.n; ++row)
      store_part(gradient + row * in.d + feature,
                 load(squares + row * kFeatures + column) * of_squares + load(other + row * ld + column) * of_other -
                     load(own + row * ld + column) * of_own,
                 lanes);
  }
}

bool gram_gradients(const CrossCorrelationInputs& in, const CrossCorrelationSaved& saved, float loss_gradient,
                    float* const gradients[2]) {
  const Statistics statistics(saved, in.d);
  const std::int64_t size = in.n * kFeatures;
  return parallel_chunks(ceil_div(in.d, kFeatures), in.threads, static_cast<std::size_t>(3 * size),
                         [&](std::int64_t index, float* scratch) {
                           const Chunk chunk(index, in.d);
                           float* z[2] = {scratch, scratch + size};
                           float* squares = scratch + 2 * size;
                           for (int side = 0; side < 2; ++side)
                             standardise(in, statistics, side, chunk, z[side], kFeatures);
                           prefetch_inputs(in, index + in.threads);  // this thread's next chunk, most likely
                           for (int side = 0; side < 2; ++side) {
                             if (gradients[side] == nullptr) continue;
                             prefetch<1>(gradients[side], in, index);
                             const float* gram = saved.products + (1 - side) * in.n * in.n;
                             product({gram, in.n, 1, z[side], kFeatures, squares, kFeatures, in.n, false}, in.n,
                                     round_up(chunk.columns, kLanes));
                             finish(in, statistics, side, chunk, loss_gradient, squares, z[side], z[1 - side],
                                    kFeatures, gradients[side]);
                           }
                         });
}

bool feature_gradients(const CrossCorrelationInputs& in, const CrossCorrelationSaved& saved, float loss_gradient,
                       float* const gradients[2]) {
  const Statistics statistics(saved, in.d);
  const std::int64_t ld = padded(in.d);
  float* workspace = thread_scratch(Slot::workspace, static_cast<std::size_t>(2 * (in.n + in.d) * ld));
  if (workspace == nullptr) return false;
  float* const z[2] = {workspace, workspace + in.n * ld};                                      // (n, ld)
  float* const by_other[2] = {workspace + 2 * in.n * ld, workspace + (2 * in.n + in.d) * ld};  // (d, ld): C^T, C
  std::fill(by_other[0], by_other[0] + 2 * in.d * ld, 0.0f);
  transpose(saved.products, in.d, in.d, in.d, by_other[0], ld);
  for (std::int64_t row = 0; row < in.d; ++row) std::copy_n(saved.products + row * in.d, in.d, by_other[1] + row * ld);
  const std::int64_t chunks = ceil_div(in.d, kFeatures);
  const auto each_chunk = [&](std::size_t scratch_floats, const auto& body) {
    return parallel_chunks(2 * chunks, in.threads, scratch_floats, [&](std::int64_t task, float* scratch) {
      body(static_cast<int>(task / chunks), Chunk(task % chunks, in.d), scratch);
    });
  };
  return each_chunk(0, [&](int side, Chunk chunk,
                           float*) { standardise(in, statistics, side, chunk, z[side] + chunk.first, ld); }) &&
         each_chunk(static_cast<std::size_t>(in.n * kFeatures), [&](int side, Chunk chunk, float* squares) {
           if (gradients[side] == nullptr) return;
           const float* own = z[side] + chunk.first;
           const float* other = z[1 - side] + chunk.first;
           product({z[1 - side], ld, 1, by_other[side] + chunk.first, ld, squares, kFeatures, in.d, false}, in.n,
                   round_up(chunk.columns, kLanes));
           finish(in, statistics, side, chunk, loss_gradient, squares, own, other, ld, gradients[side]);
         });
}

bool backward(const CrossCorrelationInputs& in, const CrossCorrelationSaved& saved, float loss_gradient,
              float* const gradients[2]) {
  return (use_gram(in) ? gram_gradients : feature_gradients)(in, saved, loss_gradient, gradients);
}

}  // namespace

extern const CrossCorrelation cross_correlation;
const CrossCorrelation cross_correlation{forward, backward};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
