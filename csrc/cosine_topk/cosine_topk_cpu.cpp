// A task multiplies some rows of the database with all queries, panel by panel, and offers what reaches a query's bound
// to its list of the best so far. Where the processor multiplies in bfloat16, that comes first and leaves few rows to
// be multiplied exactly.
#include <algorithm>
#include <cmath>

#include "common/parallel.h"
#include "common/tile.h"
#include "cosine_topk/cosine_topk.h"
#include "cosine_topk/filter.h"
#include "cosine_topk/lists.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kPanel = 48;   // queries of a panel: whole register tiles at every level
constexpr std::int64_t kRows = 64;    // rows of the database of a task; with all their features they stay in L2
constexpr std::int64_t kDepth = 128;  // features at a time, of a panel's that stay in L1

// 1 / length of a vector; 0 of a zero vector. Of very short and very long ones, too, whose squares a float cannot hold.
float inverse_length(const float* vector, std::int64_t d) {
  const float square = dot(vector, vector, d);
  if (square > 1e-30f && square < 1e30f) return 1.0f / std::sqrt(square);
  double exact = 0.0;
  for (std::int64_t i = 0; i < d; ++i) exact += static_cast<double>(vector[i]) * vector[i];
  return exact == 0.0 ? 0.0f : static_cast<float>(1.0 / std::sqrt(exact));
}

// A query as a unit vector: unit (d).
void normalise(const CosineTopkProblem& problem, std::int64_t query, float* unit) {
  const float* const own = problem.queries + query * problem.d;
  const float scale = inverse_length(own, problem.d);
  for (std::int64_t i = 0; i < problem.d; ++i) unit[i] = own[i] * scale;
}

// Some of the queries, by number, in panels of kPanel.
struct Chosen {
  const std::int64_t* numbers;
  std::int64_t count;

  std::int64_t panels() const { return ceil_div(count, kPanel); }
  std::int64_t of_panel(std::int64_t panel) const { return std::min(kPanel, count - panel * kPanel); }
  std::int64_t number(std::int64_t panel, std::int64_t i) const { return numbers[panel * kPanel + i]; }
};

// Offers all of products (count, kPanel) that reach their query's bound. scales (count) of the database's rows.
void offer_products(const Lists& lists, const Chosen& chosen, const float* products, const float* scales,
                    std::int64_t first, std::int64_t count, std::int64_t panel) {
  float bounds[kPanel];
  std::fill_n(bounds, kPanel, NAN);  // which nothing reaches
  for (std::int64_t i = 0; i < chosen.of_panel(panel); ++i) bounds[i] = lists.bounds[chosen.number(panel, i)];
  for (std::int64_t row = 0; row < count; ++row)
    for (std::int64_t i = 0; i < kPanel; i += kLanes) {
      const Vec similarity = load(products + row * kPanel + i) * splat(scales[row]);
      std::uint64_t reached = lanes_at_most(load(bounds + i), similarity);
      for (; reached != 0; reached &= reached - 1) {
        const int lane = __builtin_ctzll(reached);
        const std::int64_t query = chosen.number(panel, i + lane);
        lists.offer(query, similarity[lane], first + row);
        bounds[i + lane] = lists.bounds[query];
      }
    }
}

// Every row of the database against the chosen queries, in float32.
bool search_exactly(const CosineTopkProblem& problem, const Chosen& chosen, float* packed, const Lists& lists) {
  const std::int64_t row_ld = padded(problem.d), panel_floats = problem.d * kPanel;
  const auto pack = [&](std::int64_t panel, float* unit) {
    float* const own = packed + panel * panel_floats;  // (d, kPanel)
    std::fill_n(own, panel_floats, 0.0f);
    for (std::int64_t i = 0; i < chosen.of_panel(panel); ++i) {
      normalise(problem, chosen.number(panel, i), unit);
      for (std::int64_t d = 0; d < problem.d; ++d) own[d * kPanel + i] = unit[d];
    }
  };
  const auto search = [&](std::int64_t task, float* scratch) {
    float* const rows = scratch;                      // (kRows, row_ld)
    float* const products = rows + kRows * row_ld;    // (kRows, kPanel)
    float* const scales = products + kRows * kPanel;  // (kRows)
    const std::int64_t first = task * kRows, count = std::min(kRows, problem.n - first);
    for (std::int64_t row = 0; row < count; ++row) {
      std::copy_n(problem.database + (first + row) * problem.d, problem.d, rows + row * row_ld);
      scales[row] = inverse_length(rows + row * row_ld, problem.d);
    }
    for (std::int64_t panel = 0; panel < chosen.panels(); ++panel) {
      const float* const queries = packed + panel * panel_floats;
      for (std::int64_t depth = 0; depth < problem.d; depth += kDepth)
        product({rows + depth, row_ld, 1, queries + depth * kPanel, kPanel, products, kPanel,
                 std::min(kDepth, problem.d - depth), depth > 0},
                count, kPanel);
      offer_products(lists, chosen, products, scales, first, count, panel);
    }
  };
  return parallel_chunks(chosen.panels(), problem.threads, static_cast<std::size_t>(problem.d), pack) &&
         parallel_chunks(chosen.count == 0 ? 0 : ceil_div(problem.n, kRows), problem.threads,
                         static_cast<std::size_t>(kRows * (row_ld + kPanel + 1)), search);
}

// What the filter keeps: for every query the best lower bounds, which say what can still be among the best, and the
// rows whose upper bound reaches the k-th of them.
struct Filter {
  const CosineTopkProblem& problem;
  Lists lower;
  std::int64_t room;      // candidates of a query
  std::uint32_t* panels;  // (panels, pairs, kPanel) unit queries in bfloat16
  float* query_errors;    // (panels, kPanel) lengths that rounding took away
  float* uppers;          // (q, room)
  std::int32_t* rows;     // (q, room)
  std::int32_t* counts;   // (q) candidates; kOverflow where there were too many
  static constexpr std::int32_t kOverflow = -1;

  std::int64_t pairs() const { return ceil_div(problem.d, 2); }

  void consider(std::int64_t query, float similarity, float error, std::int32_t row) const {
    lower.lock(query);
    if (similarity + error >= lower.bounds[query] && counts[query] != kOverflow) {
      lower.insert(query, similarity - error, row);
      const bool full = counts[query] == room;
      if (full) drop(query);
      if (full && 4 * counts[query] > 3 * room) {  // too few went for this to go on
        counts[query] = kOverflow;
        lower.bounds[query] = NAN;  // which nothing reaches any more
      } else {
        uppers[query * room + counts[query]] = similarity + error;
        rows[query * room + counts[query]++] = row;
      }
    }
    lower.unlock(query);
  }

  // Drops candidates that can no longer be among the best.
  void drop(std::int64_t query) const {
    float* const own = uppers + query * room;
    std::int32_t* const places = rows + query * room;
    std::int32_t kept = 0;
    for (std::int32_t i = 0; i < counts[query]; ++i)
      if (own[i] >= lower.bounds[query]) own[kept] = own[i], places[kept++] = places[i];
    counts[query] = kept;
  }

  void pack(std::int64_t panel, float* scratch) const {
    std::uint32_t* const own = panels + panel * pairs() * kPanel;
    std::uint16_t* const rounded = reinterpret_cast<std::uint16_t*>(scratch + problem.d);
    std::fill_n(own, pairs() * kPanel, 0u);
    for (std::int64_t i = 0; i < std::min(kPanel, problem.q - panel * kPanel); ++i) {
      normalise(problem, panel * kPanel + i, scratch);
      query_errors[panel * kPanel + i] = round_vector(scratch, problem.d, rounded);
      for (std::int64_t pair = 0; pair < pairs(); ++pair) std::memcpy(own + pair * kPanel + i, rounded + 2 * pair, 4);
    }
  }
};

// The rows of one task, rounded.
struct RoundedRows {
  std::uint32_t* pairs;  // (kRows, ld)
  std::int64_t ld, count;
  float* scales;  // (kRows) 1 / length
  float* errors;  // (kRows) what rounding took away of a row of length 1, infinite where squares do not fit a float
};

void round_rows(const CosineTopkProblem& problem, std::int64_t first, const RoundedRows& rows) {
  for (std::int64_t row = 0; row < kRows; ++row) {
    std::uint32_t* const own = rows.pairs + row * rows.ld;
    rows.scales[row] = rows.errors[row] = 0.0f;
    if (row >= rows.count) {
      std::fill_n(own, rows.ld, 0u);
      continue;
    }
    const float* const source = problem.database + (first + row) * problem.d;
    const float lost = round_vector(source, problem.d, reinterpret_cast<std::uint16_t*>(own));
    rows.scales[row] = inverse_length(source, problem.d);
    const bool fits = rows.scales[row] == 0.0f || (rows.scales[row] > 1e-15f && rows.scales[row] < 1e15f);
    rows.errors[row] = fits ? lost * rows.scales[row] : INFINITY;
  }
}

// Considers products (kRows, kPanel) of a panel. An error is at most what rounding took from either vector, times the
// length of the other, and what summing in float32 may lose in either way of multiplying.
void consider_products(const Filter& filter, const RoundedRows& rows, const float* products, std::int64_t first,
                       std::int64_t panel) {
  const float summing = 4.0f * static_cast<float>(filter.problem.d) * 0x1p-24f;
  const std::int64_t start = panel * kPanel, queries = std::min(kPanel, filter.problem.q - start);
  float bounds[kPanel];
  std::fill_n(bounds, kPanel, NAN);  // which nothing reaches
  std::copy_n(filter.lower.bounds + start, queries, bounds);
  for (std::int64_t row = 0; row < rows.count; ++row)
    for (std::int64_t i = 0; i < kPanel; i += kLanes) {
      const Vec similarity = load(products + row * kPanel + i) * splat(rows.scales[row]);
      const Vec error = load(filter.query_errors + start + i) + splat(1.01f * rows.errors[row] + summing);
      std::uint64_t reached = lanes_at_most(load(bounds + i), similarity + error);
      for (; reached != 0; reached &= reached - 1) {
        const int lane = __builtin_ctzll(reached);
        filter.consider(start + i + lane, similarity[lane], error[lane], static_cast<std::int32_t>(first + row));
        bounds[i + lane] = filter.lower.bounds[start + i + lane];
      }
    }
}

// All rows of the database against panels [first, last), in bfloat16.
bool search_filtered(const Filter& filter, std::int64_t first_panel, std::int64_t last_panel) {
  const CosineTopkProblem& problem = filter.problem;
  const std::int64_t ld = padded(filter.pairs()), step = kDepth;
  const auto search = [&](std::int64_t task, float* scratch) {
    float* const products = scratch + kRows * ld;  // (kRows, kPanel)
    float* const scales = products + kRows * kPanel;
    const std::int64_t first = task * kRows;
    const RoundedRows rows{reinterpret_cast<std::uint32_t*>(scratch), ld, std::min(kRows, problem.n - first), scales,
                           scales + kRows};
    round_rows(problem, first, rows);
    for (std::int64_t panel = first_panel; panel < last_panel; ++panel) {
      const std::uint32_t* const queries = filter.panels + panel * filter.pairs() * kPanel;
      for (std::int64_t pair = 0; pair < filter.pairs(); pair += step)
        for (std::int64_t row = 0; row < kRows; row += 8)
          product_bfloat16(rows.pairs + row * ld + pair, ld, queries + pair * kPanel,
                           std::min(step, filter.pairs() - pair), pair > 0, products + row * kPanel);
      consider_products(filter, rows, products, first, panel);
    }
  };
  return parallel_chunks(last_panel > first_panel ? ceil_div(problem.n, kRows) : 0, problem.threads,
                         static_cast<std::size_t>(kRows * (ld + kPanel + 2)), search);
}

// The exact similarities of a query's candidates, by the operations of `search_exactly`. unit (d) is scratch.
void finish_candidates(const Filter& filter, std::int64_t query, const Lists& lists, float* unit) {
  constexpr std::int64_t kAtOnce = 8;  // sums in one order each, of several rows to hide their latency
  const CosineTopkProblem& problem = filter.problem;
  filter.drop(query);
  normalise(problem, query, unit);
  const std::int32_t* const rows = filter.rows + query * filter.room;
  for (std::int64_t first = 0; first < filter.counts[query]; first += kAtOnce) {
    const float* sources[kAtOnce];
    float sums[kAtOnce] = {};
    for (std::int64_t i = 0; i < kAtOnce; ++i)
      sources[i] = problem.database + rows[std::min<std::int64_t>(first + i, filter.counts[query] - 1)] * problem.d;
    for (std::int64_t d = 0; d < problem.d; ++d)
#pragma GCC unroll 8
      for (std::int64_t i = 0; i < kAtOnce; ++i) sums[i] = std::fma(sources[i][d], unit[d], sums[i]);
    for (std::int64_t i = 0; i < std::min(kAtOnce, filter.counts[query] - first); ++i) {
      const float similarity = sums[i] * inverse_length(sources[i], problem.d);
      if (similarity == similarity) lists.offer(query, similarity, rows[first + i]);
    }
  }
}

// Lists that similarities of NaN have left short take the lowest indices that they do not hold.
void complete(const Lists& lists, std::int64_t query) {
  std::int64_t* const places = lists.indices + query * lists.k;
  std::int64_t* const end = places + lists.counts[query];
  std::int64_t count = lists.counts[query];
  for (std::int64_t index = 0; count < lists.k; ++index) {
    if (std::find(places, end, index) != end) continue;
    lists.similarities[query * lists.k + count] = NAN;
    places[count++] = index;
  }
}

// Memory in floats, by part.
struct Plan {
  std::int64_t q, panels, lists, numbers, exact, room, filter;

  explicit Plan(const CosineTopkProblem& problem)
      : q(problem.q),
        panels(ceil_div(problem.q, kPanel)),
        lists(round_up(Lists::floats(problem.q), 16)),
        numbers(round_up(2 * problem.q, 16)),
        exact(panels * kPanel * problem.d),
        room(std::max<std::int64_t>(512, 8 * problem.k)),
        filter(panels * kPanel * (ceil_div(problem.d, 2) + 1) + lists + q * (2 * room + 3 * problem.k + 1)) {}
};

// Filters all queries, unless the first panel shows that too many rows are too similar, and finishes those for which it
// worked. Writes the numbers of the others, and how many, to `left`.
bool filter_queries(const CosineTopkProblem& problem, const Plan& plan, float* memory, const Lists& lists,
                    std::int64_t* left, std::int64_t* left_count) {
  std::int64_t* const lower_indices = reinterpret_cast<std::int64_t*>(memory);
  float* const lower_similarities = memory + 2 * plan.q * problem.k;
  float* const errors = lower_similarities + plan.q * problem.k;
  float* const uppers = errors + plan.panels * kPanel;
  std::uint32_t* const panels = reinterpret_cast<std::uint32_t*>(uppers + plan.q * plan.room);
  std::int32_t* const rows = reinterpret_cast<std::int32_t*>(panels) + plan.panels * kPanel * ceil_div(problem.d, 2);
  float* const list_memory = reinterpret_cast<float*>(rows) + plan.q * plan.room;
  std::int32_t* const counts = reinterpret_cast<std::int32_t*>(list_memory + plan.lists);
  const Filter filter{problem,   Lists(problem.k, plan.q, list_memory, lower_similarities, lower_indices),
                      plan.room, panels,
                      errors,    uppers,
                      rows,      counts};
  std::fill_n(counts, plan.q, 0);
  std::fill_n(errors, plan.panels * kPanel, 0.0f);
  const auto pack = [&](std::int64_t panel, float* scratch) { filter.pack(panel, scratch); };
  if (!parallel_chunks(plan.panels, problem.threads, static_cast<std::size_t>(2 * problem.d + 1), pack) ||
      !search_filtered(filter, 0, 1))
    return false;
  const std::int64_t tried = std::min(kPanel, plan.q);
  if (4 * std::count(counts, counts + tried, Filter::kOverflow) > tried)
    std::fill(counts + tried, counts + plan.q, Filter::kOverflow);
  else if (!search_filtered(filter, 1, plan.panels))
    return false;
  for (std::int64_t query = 0; query < plan.q; ++query)
    if (counts[query] == Filter::kOverflow) left[(*left_count)++] = query;
  const auto finish = [&](std::int64_t query, float* unit) {
    if (counts[query] != Filter::kOverflow) finish_candidates(filter, query, lists, unit);
  };
  return parallel_chunks(plan.q, problem.threads, static_cast<std::size_t>(problem.d), finish);
}

// Whether the filter may pay: its products are the larger part of the work, and few rows of many are wanted.
bool may_filter(const CosineTopkProblem& problem) {
  return has_bfloat16_products() && problem.d >= 128 && problem.n >= 50 * problem.k && problem.n >= 2048 &&
         problem.n <= INT32_MAX;
}

bool run(const CosineTopkProblem& problem, float* similarities, std::int64_t* indices) {
  const Plan plan(problem);
  const bool filters = may_filter(problem);
  const std::int64_t floats = plan.lists + plan.numbers + std::max(plan.exact, filters ? plan.filter : 0);
  float* const memory = thread_scratch(Slot::workspace, static_cast<std::size_t>(floats));
  if (memory == nullptr) return false;
  const Lists lists(problem.k, problem.q, memory, similarities, indices);
  std::int64_t* const numbers = reinterpret_cast<std::int64_t*>(memory + plan.lists);
  float* const rest = memory + plan.lists + plan.numbers;
  std::int64_t count = 0;
  if (!filters)
    for (; count < problem.q; ++count) numbers[count] = count;
  else if (!filter_queries(problem, plan, rest, lists, numbers, &count))
    return false;
  return search_exactly(problem, {numbers, count}, rest, lists) &&
         parallel_chunks(problem.q, problem.threads, 0, [&](std::int64_t query, float*) { complete(lists, query); });
}

}  // namespace

extern const CosineTopk cosine_topk;
const CosineTopk cosine_topk{run};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
