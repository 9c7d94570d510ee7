// A task multiplies some rows of the database with all queries, panel by panel, and offers what reaches a query's bound
// to its list of the best so far. The lists are shared: whatever the order, they end with the same k entries.
#include <algorithm>
#include <cmath>

#include "common/parallel.h"
#include "common/tile.h"
#include "cosine_topk/cosine_topk.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kPanel = 48;   // queries of a panel: whole register tiles at every level
constexpr std::int64_t kRows = 64;    // rows of the database of a task; with all their features they stay in L2
constexpr std::int64_t kDepth = 128;  // features at a time, of a panel's that stay in L1

struct Plan {
  std::int64_t panels, row_ld;

  explicit Plan(const CosineTopkProblem& problem) : panels(ceil_div(problem.q, kPanel)), row_ld(padded(problem.d)) {}

  std::int64_t queries() const { return panels * kPanel; }
  std::int64_t packed_floats(std::int64_t d) const { return panels * d * kPanel; }
  std::int64_t scratch_floats() const { return kRows * (row_ld + kPanel + 1); }
};

// Every query's best entries so far, in order.
struct Lists {
  const CosineTopkProblem& problem;
  float* similarities;    // (q, k)
  std::int64_t* indices;  // (q, k)
  float* bounds;          // (queries of all panels): the k-th similarity, read without a lock: an old one is lower
  std::int32_t* counts;   // (q) entries of a list
  std::int32_t* locks;    // (q)

  void offer(std::int64_t query, float similarity, std::int64_t index) const {
    while (__atomic_exchange_n(locks + query, 1, __ATOMIC_ACQUIRE) != 0) {
    }
    insert(query, similarity, index);
    __atomic_store_n(locks + query, 0, __ATOMIC_RELEASE);
  }

 private:
  void insert(std::int64_t query, float similarity, std::int64_t index) const {
    float* const values = similarities + query * problem.k;
    std::int64_t* const places = indices + query * problem.k;
    std::int64_t at = counts[query];
    const auto is_behind = [&](std::int64_t i) {
      return values[i] < similarity || (values[i] == similarity && places[i] > index);
    };
    if (at == problem.k && !is_behind(at - 1)) return;
    if (at == problem.k)
      --at;
    else
      ++counts[query];
    for (; at > 0 && is_behind(at - 1); --at) values[at] = values[at - 1], places[at] = places[at - 1];
    values[at] = similarity, places[at] = index;
    if (counts[query] == problem.k) bounds[query] = values[problem.k - 1];
  }
};

// 1 / length of a vector; 0 of a zero vector. Of very short and very long ones, too, whose squares a float cannot hold.
float inverse_length(const float* vector, std::int64_t d) {
  const float square = dot(vector, vector, d);
  if (square > 1e-30f && square < 1e30f) return 1.0f / std::sqrt(square);
  double exact = 0.0;
  for (std::int64_t i = 0; i < d; ++i) exact += static_cast<double>(vector[i]) * vector[i];
  return exact == 0.0 ? 0.0f : static_cast<float>(1.0 / std::sqrt(exact));
}

// Queries of a panel as unit vectors: packed (d, kPanel), zeros where there is no query.
void pack_panel(const CosineTopkProblem& problem, std::int64_t panel, float* packed) {
  const std::int64_t first = panel * kPanel, count = std::min(kPanel, problem.q - first);
  float scales[kPanel] = {};
  for (std::int64_t i = 0; i < count; ++i)
    scales[i] = inverse_length(problem.queries + (first + i) * problem.d, problem.d);
  std::fill_n(packed, problem.d * kPanel, 0.0f);
  transpose(problem.queries + first * problem.d, problem.d, count, problem.d, packed, kPanel);
  for (std::int64_t row = 0; row < problem.d; ++row)
    for (std::int64_t i = 0; i < kPanel; i += kLanes)
      store(packed + row * kPanel + i, load(packed + row * kPanel + i) * load(scales + i));
}

// Offers all of products (count, kPanel) that reach their query's bound. scales (count) of the database's rows.
void offer_products(const Lists& lists, const float* products, const float* scales, std::int64_t first,
                    std::int64_t count, std::int64_t panel) {
  for (std::int64_t row = 0; row < count; ++row)
    for (std::int64_t i = 0; i < kPanel; i += kLanes) {
      const Vec similarity = load(products + row * kPanel + i) * splat(scales[row]);
      std::uint64_t reached = lanes_at_most(load(lists.bounds + panel * kPanel + i), similarity);
      for (; reached != 0; reached &= reached - 1) {
        const int lane = __builtin_ctzll(reached);
        lists.offer(panel * kPanel + i + lane, similarity[lane], first + row);
      }
    }
}

// Rows [first, first + count) of the database against all queries. packed (panels, d, kPanel).
void search_rows(const CosineTopkProblem& problem, const Plan& plan, const float* packed, std::int64_t first,
                 std::int64_t count, float* scratch, const Lists& lists) {
  float* const rows = scratch;                         // (kRows, row_ld)
  float* const products = rows + kRows * plan.row_ld;  // (kRows, kPanel)
  float* const scales = products + kRows * kPanel;     // (kRows)
  for (std::int64_t row = 0; row < count; ++row) {
    std::copy_n(problem.database + (first + row) * problem.d, problem.d, rows + row * plan.row_ld);
    scales[row] = inverse_length(rows + row * plan.row_ld, problem.d);
  }
  for (std::int64_t panel = 0; panel < plan.panels; ++panel) {
    const float* const queries = packed + panel * problem.d * kPanel;
    for (std::int64_t depth = 0; depth < problem.d; depth += kDepth)
      product({rows + depth, plan.row_ld, 1, queries + depth * kPanel, kPanel, products, kPanel,
               std::min(kDepth, problem.d - depth), depth > 0},
              count, kPanel);
    offer_products(lists, products, scales, first, count, panel);
  }
}

// Lists that similarities of NaN have left short take the lowest indices that they do not hold.
void complete(const Lists& lists, std::int64_t query) {
  const std::int64_t k = lists.problem.k;
  std::int64_t* const places = lists.indices + query * k;
  std::int64_t count = lists.counts[query];
  for (std::int64_t index = 0; count < k; ++index) {
    if (std::find(places, places + lists.counts[query], index) != places + lists.counts[query]) continue;
    lists.similarities[query * k + count] = NAN;
    places[count++] = index;
  }
}

bool run(const CosineTopkProblem& problem, float* similarities, std::int64_t* indices) {
  const Plan plan(problem);
  const std::int64_t packed_floats = plan.packed_floats(problem.d);
  float* const packed = thread_scratch(Slot::workspace, static_cast<std::size_t>(packed_floats + 3 * plan.queries()));
  if (packed == nullptr) return false;
  float* const bounds = packed + packed_floats;
  std::int32_t* const counts = reinterpret_cast<std::int32_t*>(bounds + plan.queries());
  const Lists lists{problem, similarities, indices, bounds, counts, counts + plan.queries()};
  std::fill_n(bounds, problem.q, -INFINITY);
  std::fill(bounds + problem.q, bounds + plan.queries(), INFINITY);
  std::fill_n(counts, 2 * plan.queries(), 0);
  return parallel_chunks(
             plan.panels, problem.threads, 0,
             [&](std::int64_t panel, float*) { pack_panel(problem, panel, packed + panel * problem.d * kPanel); }) &&
         parallel_chunks(ceil_div(problem.n, kRows), problem.threads, static_cast<std::size_t>(plan.scratch_floats()),
                         [&](std::int64_t task, float* scratch) {
                           const std::int64_t first = task * kRows;
                           search_rows(problem, plan, packed, first, std::min(kRows, problem.n - first), scratch,
                                       lists);
                         }) &&
         parallel_chunks(problem.q, problem.threads, 0, [&](std::int64_t query, float*) { complete(lists, query); });
}

}  // namespace

extern const CosineTopk cosine_topk;
const CosineTopk cosine_topk{run};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
