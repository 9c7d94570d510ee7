// Scores are made transposed, keys by queries, so that maxima and sums over keys are vertical: one lane is one query.
// A task is a block of queries against a group of keys with a running maximum; groups are merged in their order.
#include <algorithm>
#include <cmath>

#include "common/exponential.h"
#include "common/parallel.h"
#include "common/tile.h"
#include "info_nce/info_nce.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kQueries = 128;             // most queries of a block
constexpr std::int64_t kQueryFloats = 192 * 1024;  // a block of queries stays in L2
constexpr std::int64_t kKeyFloats = 48 * 1024;     // so does a block of keys
constexpr std::int64_t kTasks = 32;                // enough for the threads, few enough partial results
constexpr std::int64_t kKeysOfGroup = 512;         // at least; fewer would not repay a partial result
constexpr std::int64_t kQueriesOfTask = 8;

// Sizes by the problem's shape alone.
struct Plan {
  std::int64_t queries, query_blocks;  // of a block; a multiple of 16
  std::int64_t keys;                   // of a block
  std::int64_t group_keys, groups;
  std::int64_t query_ld, depth_ld;  // leading dimensions of (*, queries) and (*, d) arrays

  explicit Plan(const InfoNceInputs& in)
      : queries(
            std::min(round_up(in.n, 16),
                     std::clamp<std::int64_t>(kQueryFloats / std::max<std::int64_t>(in.d, 1) / 16 * 16, 48, kQueries))),
        query_blocks(ceil_div(in.n, queries)),
        keys(std::clamp<std::int64_t>(kKeyFloats / std::max<std::int64_t>(in.d, 1) / 8 * 8, 32, 192)),
        group_keys(round_up(std::max(kKeysOfGroup, ceil_div(in.k * query_blocks, kTasks)), keys)),
        groups(ceil_div(in.k, group_keys)),
        query_ld(padded(queries)),
        depth_ld(padded(in.d)) {}

  std::int64_t packed_floats(std::int64_t d) const { return d * query_ld; }
  std::int64_t partial_floats() const { return 2 * query_ld + queries * depth_ld; }
  std::int64_t scratch_floats() const { return keys * (depth_ld + query_ld) + query_ld; }
};

// What a group of keys adds to a block of queries. Scores count in powers of two.
struct Partial {
  float* maximum;   // (query_ld) of the scores
  float* total;     // (query_ld) sum of 2^(score - maximum)
  float* gradient;  // (queries, depth_ld) sum of 2^(score - maximum) * key

  Partial(float* memory, const Plan& plan)
      : maximum(memory), total(memory + plan.query_ld), gradient(memory + 2 * plan.query_ld) {}
};

float score_scale(const InfoNceInputs& in) { return static_cast<float>(1.4426950408889634 / in.temperature); }

// Queries of a block, transposed and scaled, into packed (d, query_ld); the rest of each row is 0.
void pack_queries(const InfoNceInputs& in, const Plan& plan, std::int64_t block, float* packed) {
  const std::int64_t first = block * plan.queries, count = std::min(plan.queries, in.n - first);
  std::fill_n(packed, plan.packed_floats(in.d), 0.0f);
  transpose(in.query + first * in.d, in.d, count, in.d, packed, plan.query_ld);
  const Vec scale = splat(score_scale(in));
  for (std::int64_t i = 0; i < plan.packed_floats(in.d); i += kLanes) store(packed + i, load(packed + i) * scale);
}

// scores (count, query_ld) -> 2^(score - maximum); updates maximum and total of `partial`, and writes to factors
// (query_ld) what sums made with the old maximum are to be multiplied by. Returns whether any is not 1.
bool exponentials(const Plan& plan, std::int64_t count, float* scores, const Partial& partial, float* factors) {
  IntVec changed{};
  for (std::int64_t column = 0; column < plan.queries; column += kLanes) {
    const Vec before = load(partial.maximum + column);
    Vec maximum = before, other = before;
    std::int64_t key = 0;
    for (; key + 2 <= count; key += 2) {
      const Vec a = load(scores + key * plan.query_ld + column), b = load(scores + (key + 1) * plan.query_ld + column);
      maximum = a > maximum ? a : maximum;
      other = b > other ? b : other;
    }
    if (key < count) {
      const Vec a = load(scores + key * plan.query_ld + column);
      maximum = a > maximum ? a : maximum;
    }
    maximum = other > maximum ? other : maximum;
    const Vec factor = power_of_two(before - maximum);
    Vec total{};
    for (key = 0; key < count; ++key) {
      const Vec value = power_of_two(load(scores + key * plan.query_ld + column) - maximum);
      store(scores + key * plan.query_ld + column, value);
      total += value;
    }
    store(partial.maximum + column, maximum);
    store(partial.total + column, load(partial.total + column) * factor + total);
    store(factors + column, factor);
    changed |= (factor != splat(1.0f));
  }
  for (int lane = 0; lane < kLanes; ++lane)
    if (changed[lane]) return true;
  return false;
}

// A group's share of a block of queries. packed (d, query_ld); scratch of plan.scratch_floats().
void add_group(const InfoNceInputs& in, const Plan& plan, std::int64_t group, const float* packed, bool gradient,
               float* scratch, const Partial& partial) {
  float* const keys = scratch;                                // (keys, depth_ld) copied out of the queue
  float* const scores = keys + plan.keys * plan.depth_ld;     // (keys, query_ld)
  float* const factors = scores + plan.keys * plan.query_ld;  // (query_ld)
  const std::int64_t start = group * plan.group_keys, end = std::min(in.k, start + plan.group_keys);
  std::fill_n(partial.maximum, plan.query_ld, -INFINITY);
  std::fill_n(partial.total, plan.query_ld, 0.0f);
  for (std::int64_t first = start; first < end; first += plan.keys) {
    const std::int64_t count = std::min(plan.keys, end - first);
    for (std::int64_t key = 0; key < count; ++key) {
      std::copy_n(in.queue + (first + key) * in.d, in.d, keys + key * plan.depth_ld);
      std::fill(keys + key * plan.depth_ld + in.d, keys + (key + 1) * plan.depth_ld, 0.0f);
    }
    product({keys, plan.depth_ld, 1, packed, plan.query_ld, scores, plan.query_ld, in.d, false}, count, plan.queries);
    const bool rescale = exponentials(plan, count, scores, partial, factors);
    if (!gradient) continue;
    if (rescale && first > start)
      for (std::int64_t query = 0; query < plan.queries; ++query)
        for (std::int64_t i = 0; i < plan.depth_ld; i += kLanes) {
          float* const place = partial.gradient + query * plan.depth_ld + i;
          store(place, load(place) * splat(factors[query]));
        }
    product({scores, 1, plan.query_ld, keys, plan.depth_ld, partial.gradient, plan.depth_ld, count, first > start},
            plan.queries, round_up(in.d, kLanes));
  }
}

// target (n) += weight * source (n)
void add_scaled(const float* source, float weight, std::int64_t n, float* target) {
  for (std::int64_t i = 0; i < n; ++i) target[i] += weight * source[i];
}

// Sums over everything that one query is compared with. Scores count in powers of two.
struct Totals {
  double maximum, positive_maximum, positive_mean;  // of scores
  double of_positives;                              // sum of 2^(score - positive_maximum)
  double all;                                       // sum of 2^(score - maximum) over positives and queue
  double of_queue;

  // The share of the positives' sum in units of `all`.
  double rise() const { return std::exp2(positive_maximum - maximum); }

  double loss(bool mean_log) const {
    constexpr double log_2 = 0.6931471805599453;
    if (mean_log) return std::log(all) + (maximum - positive_mean) * log_2;
    const double positives = of_positives * rise();
    if (positives > 0) return std::log1p(of_queue / positives);  // exact digits where the loss is small
    return std::log(all) - std::log(of_positives) + (maximum - positive_maximum) * log_2;
  }
};

// One query's comparisons: `row` counts in its block, partials are of its block, plan.partial_floats() apart.
struct Comparison {
  const InfoNceInputs& in;
  const Plan& plan;
  std::int64_t query, row;
  float* partials;

  const float* positive(std::int64_t i) const { return in.positives + (query * in.p + i) * in.d; }
  Partial partial(std::int64_t group) const { return Partial(partials + group * plan.partial_floats(), plan); }
};

// Writes the positives' scores to scores (p).
Totals add_up(const Comparison& compared, float* scores) {
  const InfoNceInputs& in = compared.in;
  Totals totals{-INFINITY, -INFINITY, 0.0, 0.0, 0.0, 0.0};
  for (std::int64_t i = 0; i < in.p; ++i) {
    scores[i] = dot(in.query + compared.query * in.d, compared.positive(i), in.d) * score_scale(in);
    totals.positive_maximum = std::max<double>(totals.positive_maximum, scores[i]);
    totals.positive_mean += static_cast<double>(scores[i]) / static_cast<double>(in.p);
  }
  totals.maximum = totals.positive_maximum;
  for (std::int64_t group = 0; group < compared.plan.groups; ++group)
    totals.maximum = std::max<double>(totals.maximum, compared.partial(group).maximum[compared.row]);
  for (std::int64_t i = 0; i < in.p; ++i) totals.of_positives += std::exp2(scores[i] - totals.positive_maximum);
  for (std::int64_t group = 0; group < compared.plan.groups; ++group) {
    const Partial partial = compared.partial(group);
    totals.of_queue += partial.total[compared.row] * std::exp2(partial.maximum[compared.row] - totals.maximum);
  }
  totals.all = totals.of_positives * totals.rise() + totals.of_queue;
  return totals;
}

void finish(const Comparison& compared, const InfoNceResults& results) {
  const InfoNceInputs& in = compared.in;
  float* const weights = results.positive_weights + compared.query * in.p;  // holds scores first
  const Totals totals = add_up(compared, weights);
  results.loss[compared.query] = static_cast<float>(totals.loss(in.mean_log));
  for (std::int64_t i = 0; i < in.p; ++i) {
    const double power = std::exp2(weights[i] - totals.positive_maximum);
    const double wanted = in.mean_log ? 1.0 / static_cast<double>(in.p) : power / totals.of_positives;
    weights[i] = static_cast<float>((power * totals.rise() / totals.all - wanted) / in.temperature);
  }
  if (results.query_gradient == nullptr) return;
  float* const gradient = results.query_gradient + compared.query * in.d;
  std::fill_n(gradient, in.d, 0.0f);
  for (std::int64_t group = 0; group < compared.plan.groups; ++group) {
    const Partial partial = compared.partial(group);
    const double power = std::exp2(partial.maximum[compared.row] - totals.maximum);
    add_scaled(partial.gradient + compared.row * compared.plan.depth_ld,
               static_cast<float>(power / (totals.all * in.temperature)), in.d, gradient);
  }
  for (std::int64_t i = 0; i < in.p; ++i) add_scaled(compared.positive(i), weights[i], in.d, gradient);
}

bool run(const InfoNceInputs& in, const InfoNceResults& results) {
  const Plan plan(in);
  const std::int64_t packed_floats = plan.query_blocks * plan.packed_floats(in.d);
  const std::int64_t partial_floats = plan.query_blocks * plan.groups * plan.partial_floats();
  float* const packed = thread_scratch(Slot::workspace, static_cast<std::size_t>(packed_floats + partial_floats));
  if (packed == nullptr) return false;
  float* const partials = packed + packed_floats;
  const auto packed_block = [&](std::int64_t block) { return packed + block * plan.packed_floats(in.d); };
  const auto partials_of = [&](std::int64_t block) { return partials + block * plan.groups * plan.partial_floats(); };
  return parallel_chunks(plan.query_blocks, in.threads, 0,
                         [&](std::int64_t block, float*) { pack_queries(in, plan, block, packed_block(block)); }) &&
         parallel_chunks(plan.query_blocks * plan.groups, in.threads, static_cast<std::size_t>(plan.scratch_floats()),
                         [&](std::int64_t task, float* scratch) {
                           const std::int64_t block = task % plan.query_blocks, group = task / plan.query_blocks;
                           add_group(in, plan, group, packed_block(block), results.query_gradient != nullptr, scratch,
                                     Partial(partials_of(block) + group * plan.partial_floats(), plan));
                         }) &&
         parallel_chunks(ceil_div(in.n, kQueriesOfTask), in.threads, 0, [&](std::int64_t task, float*) {
           const std::int64_t first = task * kQueriesOfTask, last = std::min(in.n, first + kQueriesOfTask);
           for (std::int64_t query = first; query < last; ++query)
             finish({in, plan, query, query % plan.queries, partials_of(query / plan.queries)}, results);
         });
}

}  // namespace

extern const InfoNce info_nce;
const InfoNce info_nce{run};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
