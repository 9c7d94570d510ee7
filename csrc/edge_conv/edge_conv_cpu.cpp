// A task of forward is one cloud and one block of output channels: u and v of all its points, then one pass over the
// neighbours of each. A task of backward is some clouds and some blocks; it adds what edges pass on to the points they
// come from, and two products turn that into gradients.
#include <atomic>
#include <cmath>

#include "common/parallel.h"
#include "edge_conv/edge_conv.h"
#include "edge_conv/points.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kPointsOfSum = 32;    // points whose sums are taken in float before double
constexpr std::int64_t kPointsOfTask = 256;  // of passes over extremes
constexpr std::int64_t kRanges = 32;         // of clouds, each with weight gradients of its own
constexpr std::int64_t kFewClouds = 8;       // with fewer, blocks of channels are shared out too

std::int64_t blocks_of(const EdgeConvProblem& problem) { return ceil_div(problem.c_out, kChannels); }
std::int64_t padded_channels(const EdgeConvProblem& problem) { return round_up(problem.c, 16); }

// Packed weights of all blocks.
struct Weights {
  const float *columns, *rows;
  std::int64_t c, c_padded;

  static std::int64_t floats(const EdgeConvProblem& problem) {
    return blocks_of(problem) * kPair * (problem.c + padded_channels(problem));
  }

  const float* columns_of(std::int64_t block) const { return columns + block * c * kPair; }
  const float* rows_of(std::int64_t block) const { return rows + block * kPair * c_padded; }
};

bool pack(const EdgeConvProblem& problem, float* memory, Weights* weights) {
  const std::int64_t c_padded = padded_channels(problem);
  float* const rows = memory + blocks_of(problem) * problem.c * kPair;
  *weights = {memory, rows, problem.c, c_padded};
  return parallel_chunks(blocks_of(problem), problem.threads, 0, [&](std::int64_t block, float*) {
    pack_weight(problem, Block(block, problem.c_out), c_padded, memory + block * problem.c * kPair,
                rows + block * kPair * c_padded);
  });
}

// u and v of a cloud's points in a block's channels: points (n, kPair).
void map_points(const EdgeConvProblem& problem, const Weights& weights, std::int64_t cloud, std::int64_t block,
                float* points) {
  product({problem.x + cloud * problem.n * problem.c, problem.c, 1, weights.columns_of(block), kPair, points, kPair,
           problem.c, false},
          problem.n, kPair);
}

// Returns false when out of memory.
bool check_indices(const EdgeConvProblem& problem, bool* in_range) {
  std::atomic<bool> wrong{false};
  const bool done = parallel_chunks(problem.b, problem.threads, 0, [&](std::int64_t cloud, float*) {
    const std::int64_t* const neighbors = problem.neighbors + cloud * problem.n * problem.k;
    std::uint64_t largest = 0;  // a negative index is large
    for (std::int64_t i = 0; i < problem.n * problem.k; ++i)
      largest = std::max(largest, static_cast<std::uint64_t>(neighbors[i]));
    if (problem.n * problem.k > 0 && largest >= static_cast<std::uint64_t>(problem.n)) wrong = true;
  });
  *in_range = !wrong;
  return done;
}

// Sums over edges of a block: about `pivot`, an e_ij, so that a large mean costs no digits.
struct BlockMoments {
  double mean[kChannels], squares[kChannels];  // squared deviations from the mean
  double edges;
};

struct Sums {
  float first[kChannels], second[kChannels];  // of e - pivot, and of its square
};

// kStep channels of point i: extremes, slots and sums of its edges; adds to `sums`.
SKELKERN_INLINE void gather_step(const EdgeConvProblem& problem, const Graph& graph, const EdgeConvEdges& edges,
                                 const Block& block, const float* points, const float* pivot, std::int64_t i,
                                 std::int64_t place, std::int64_t channel, std::int64_t count, Sums* sums) {
  Vec sign[2], v[2], key[2], best[2], total[2] = {}, squares[2] = {};
  IntVec slot_of[2] = {};
  for (int half = 0; half < 2; ++half) {
    const std::int64_t at = channel + half * kLanes;
    const Vec gamma = load_part(problem.gamma + block.first + at, block.lanes(at));
    sign[half] = (Vec)((IntVec)(gamma > Vec{} ? splat(1.0f) : Vec{}) | (IntVec)(gamma < Vec{} ? splat(-1.0f) : Vec{}));
    v[half] = load(points + i * kPair + kChannels + at) - load(pivot + at);
    key[half] = splat(-INFINITY), best[half] = Vec{};
  }
  for (std::int64_t slot = 0; slot < graph.k; ++slot) {
    const std::int64_t j = graph.neighbors[i * graph.k + slot];
    if (!graph.has_point(j)) continue;
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const Vec u = load(points + j * kPair + channel + half * kLanes), e = u + v[half], candidate = u * sign[half];
      const IntVec larger = candidate > key[half];
      key[half] = larger ? candidate : key[half];
      best[half] = larger ? u : best[half];
      slot_of[half] = larger ? IntVec{} + static_cast<std::int32_t>(slot) : slot_of[half];
      total[half] += e;
      squares[half] += e * e;
    }
  }
  for (int half = 0; half < 2; ++half) {
    const std::int64_t at = channel + half * kLanes, to = place + at;
    const int lanes = block.lanes(at);
    if (lanes == 0) continue;
    store(sums->first + at, load(sums->first + at) + total[half]);
    store(sums->second + at, load(sums->second + at) + squares[half]);
    const Vec back = load(pivot + at) * splat(static_cast<float>(count));
    const Vec nan_if_any = total[half] - total[half];  // comparisons have passed over NaN
    store_part(edges.extremes + to, best[half] + (v[half] + load(pivot + at)) + nan_if_any, lanes);
    if (edges.sums != nullptr) store_part(edges.sums + to, total[half] + back, lanes);
    if (edges.slots != nullptr) store_bytes(edges.slots + to, slot_of[half], lanes);
  }
}

void clear_point(const EdgeConvEdges& edges, std::int64_t place, std::int64_t width) {
  std::fill_n(edges.extremes + place, width, 0.0f);
  if (edges.sums != nullptr) std::fill_n(edges.sums + place, width, 0.0f);
  if (edges.slots != nullptr) std::fill_n(edges.slots + place, width, std::uint8_t{0});
}

// The e_ij of the first edge in a cloud, or zeros: pivot (kChannels).
void find_pivot(const Graph& graph, const float* points, float* pivot) {
  std::fill_n(pivot, kChannels, 0.0f);
  for (std::int64_t i = 0; i < graph.n; ++i)
    for (std::int64_t slot = 0; graph.has_point(i) && slot < graph.k; ++slot) {
      const std::int64_t j = graph.neighbors[i * graph.k + slot];
      if (!graph.has_point(j)) continue;
      for (std::int64_t channel = 0; channel < kChannels; ++channel)
        pivot[channel] = points[j * kPair + channel] + points[i * kPair + kChannels + channel];
      return;
    }
}

// One pass over all edges of a cloud in a block's channels. points (n, kPair).
void gather_block(const EdgeConvProblem& problem, const Graph& graph, const EdgeConvEdges& edges, const Block& block,
                  std::int64_t cloud, const float* points, BlockMoments* moments) {
  float pivot[kChannels];
  find_pivot(graph, points, pivot);
  Sums sums{};
  double first[kChannels] = {}, second[kChannels] = {}, number = 0;
  for (std::int64_t i = 0; i < graph.n; ++i) {
    const std::int64_t place = (cloud * graph.n + i) * problem.c_out + block.first, count = graph.edges(i);
    number += static_cast<double>(count);
    if (count == 0) clear_point(edges, place, block.width);
    for (std::int64_t channel = 0; count > 0 && channel < block.width; channel += kStep)
      gather_step(problem, graph, edges, block, points, pivot, i, place, channel, count, &sums);
    if ((i + 1) % kPointsOfSum != 0 && i + 1 < graph.n) continue;
    for (std::int64_t channel = 0; channel < kChannels; ++channel) {
      first[channel] += sums.first[channel];
      second[channel] += sums.second[channel];
    }
    sums = Sums{};
  }
  moments->edges = number;
  for (std::int64_t channel = 0; channel < kChannels; ++channel) {
    const double shift = number > 0 ? first[channel] / number : 0.0;
    moments->mean[channel] = pivot[channel] + shift;
    moments->squares[channel] = std::fmax(second[channel] - shift * first[channel], 0.0);
  }
}

// Adds the clouds' moments in order (Chan et al., 1979): moments (2, c_out).
void merge_moments(const EdgeConvProblem& problem, const BlockMoments* partial, double* moments, std::int64_t* count) {
  const std::int64_t blocks = blocks_of(problem);
  for (std::int64_t channel = 0; channel < problem.c_out; ++channel) {
    double edges = 0, mean = 0, squares = 0;
    for (std::int64_t cloud = 0; cloud < problem.b; ++cloud) {
      const BlockMoments& part = partial[cloud * blocks + channel / kChannels];
      if (part.edges == 0) continue;
      const double all = edges + part.edges, distance = part.mean[channel % kChannels] - mean;
      squares += part.squares[channel % kChannels] + distance * distance * edges * part.edges / all;
      mean += distance * part.edges / all;
      edges = all;
    }
    moments[channel] = mean;
    moments[problem.c_out + channel] = squares;
    *count = static_cast<std::int64_t>(edges);
  }
}

EdgeConvResult gather(const EdgeConvProblem& problem, const EdgeConvEdges& edges, double* moments,
                      std::int64_t* count) {
  bool in_range = false;
  if (!check_indices(problem, &in_range)) return EdgeConvResult::out_of_memory;
  if (!in_range) return EdgeConvResult::index_out_of_range;
  const std::int64_t blocks = blocks_of(problem), weight_floats = round_up(Weights::floats(problem), 16);
  const std::size_t moment_floats = static_cast<std::size_t>(problem.b * blocks) * sizeof(BlockMoments) / sizeof(float);
  float* const memory = thread_scratch(Slot::workspace, static_cast<std::size_t>(weight_floats) + moment_floats);
  Weights weights{};
  if (memory == nullptr || !pack(problem, memory, &weights)) return EdgeConvResult::out_of_memory;
  BlockMoments* const partial = reinterpret_cast<BlockMoments*>(memory + weight_floats);
  const bool done = parallel_chunks(problem.b * blocks, problem.threads, static_cast<std::size_t>(problem.n * kPair),
                                    [&](std::int64_t task, float* points) {
                                      const std::int64_t cloud = task / blocks, block = task % blocks;
                                      map_points(problem, weights, cloud, block, points);
                                      gather_block(problem, Graph(problem, cloud), edges, Block(block, problem.c_out),
                                                   cloud, points, partial + task);
                                    });
  if (!done) return EdgeConvResult::out_of_memory;
  merge_moments(problem, partial, moments, count);
  return EdgeConvResult::done;
}

// Some points of a cloud in the channels of a block: what passes over extremes work on.
struct Piece {
  const EdgeConvProblem& problem;
  std::int64_t cloud, first, last;

  static std::int64_t tasks(const EdgeConvProblem& problem) { return problem.b * ceil_div(problem.n, kPointsOfTask); }

  Piece(const EdgeConvProblem& of, std::int64_t task)
      : problem(of),
        cloud(task / ceil_div(of.n, kPointsOfTask)),
        first(task % ceil_div(of.n, kPointsOfTask) * kPointsOfTask),
        last(std::min(of.n, first + kPointsOfTask)) {}

  std::int64_t place(std::int64_t i, const Block& block) const {
    return (cloud * problem.n + i) * problem.c_out + block.first;
  }
};

void finish_piece(const Piece& piece, const Block& block, const BlockTail& tail, const float* extremes, float* y) {
  const Graph graph(piece.problem, piece.cloud);
  for (std::int64_t i = piece.first; i < piece.last; ++i) {
    const std::int64_t place = piece.place(i, block);
    const bool has_edges = graph.edges(i) > 0;
    for (std::int64_t channel = 0; channel < block.width; channel += kLanes) {
      const int lanes = block.lanes(channel);
      const Vec value = tail.activated(load_part(extremes + place + channel, lanes), channel);
      store_part(y + place + channel, has_edges ? value : Vec{}, lanes);
    }
  }
}

bool finish(const EdgeConvProblem& problem, const EdgeConvTail& tail, const float* extremes, float* y) {
  return parallel_chunks(Piece::tasks(problem), problem.threads, 0, [&](std::int64_t task, float*) {
    for (std::int64_t index = 0; index < blocks_of(problem); ++index) {
      const Block block(index, problem.c_out);
      finish_piece(Piece(problem, task), block, BlockTail(problem, tail, block), extremes, y);
    }
  });
}

// of_beta, of_gamma (width) of a piece
void reduce_piece(const Piece& piece, const Block& block, const BlockTail& tail, const float* extremes,
                  const float* y_gradient, double* of_beta, double* of_gamma) {
  const Graph graph(piece.problem, piece.cloud);
  for (std::int64_t channel = 0; channel < block.width; channel += kLanes) {
    const int lanes = block.lanes(channel);
    Vec plain{}, scaled{};
    for (std::int64_t i = piece.first; i < piece.last; ++i) {
      if (graph.edges(i) == 0) continue;
      const std::int64_t place = piece.place(i, block) + channel;
      const Vec e = load_part(extremes + place, lanes);
      const Vec gradient = tail.through_activation(e, load_part(y_gradient + place, lanes), channel);
      plain += gradient;
      scaled += gradient * tail.normalised(e, channel);
    }
    for (int lane = 0; lane < lanes; ++lane) {
      of_beta[channel + lane] = plain[lane];
      of_gamma[channel + lane] = scaled[lane];
    }
  }
}

bool reduce(const EdgeConvProblem& problem, const EdgeConvTail& tail, const float* extremes, const float* y_gradient,
            double* sums) {
  const std::int64_t tasks = Piece::tasks(problem), width = 2 * problem.c_out;
  double* const partial =
      reinterpret_cast<double*>(thread_scratch(Slot::workspace, static_cast<std::size_t>(2 * tasks * width)));
  if (partial == nullptr) return false;
  const bool done = parallel_chunks(tasks, problem.threads, 0, [&](std::int64_t task, float*) {
    for (std::int64_t index = 0; index < blocks_of(problem); ++index) {
      const Block block(index, problem.c_out);
      double* const own = partial + task * width + block.first;
      reduce_piece(Piece(problem, task), block, BlockTail(problem, tail, block), extremes, y_gradient, own,
                   own + problem.c_out);
    }
  });
  std::fill_n(sums, width, 0.0);
  for (std::int64_t task = 0; done && task < tasks; ++task)
    for (std::int64_t i = 0; i < width; ++i) sums[i] += partial[task * width + i];
  return done;
}

// How the statistics pass a gradient on: each edge gets -(constant + factor * e), (kChannels) each.
struct ThroughStatistics {
  float constant[kChannels], factor[kChannels];

  ThroughStatistics(const EdgeConvProblem& problem, const BlockTail& tail, const Block& block, const float* means)
      : constant{}, factor{} {
    for (std::int64_t channel = 0; channel < block.width; ++channel) {
      const float scale = tail.gamma[channel] * tail.inverse_std[channel];
      const float of_beta = means[block.first + channel], of_gamma = means[problem.c_out + block.first + channel];
      factor[channel] = scale * of_gamma * tail.inverse_std[channel];
      constant[channel] = scale * of_beta - factor[channel] * tail.mean[channel];
    }
  }
};

// The edges of a cloud by the point they end at: those of point j are [starts[j], starts[j + 1]) of `edges`, each the
// point it begins at times 256 plus its slot there.
struct ReverseGraph {
  std::int32_t* starts;  // (n + 1)
  std::uint32_t* edges;  // (n * k)

  static std::int64_t floats(std::int64_t n, std::int64_t k) { return n + 1 + n * k; }

  explicit ReverseGraph(float* memory, std::int64_t n)
      : starts(reinterpret_cast<std::int32_t*>(memory)), edges(reinterpret_cast<std::uint32_t*>(memory) + n + 1) {}

  void build(const Graph& graph) const {
    std::fill_n(starts, graph.n + 1, 0);
    each_edge(graph, [&](std::int64_t, std::int64_t, std::int64_t j) { ++starts[j]; });
    std::int32_t total = 0;
    for (std::int64_t j = 0; j <= graph.n; ++j) total += starts[j], starts[j] = total;
    // filled from the back, which leaves each start in its place and the edges in falling order of where they begin
    each_edge(graph, [&](std::int64_t i, std::int64_t slot, std::int64_t j) {
      edges[--starts[j]] = static_cast<std::uint32_t>(i << 8 | slot);
    });
  }

 private:
  template <class Body>
  static void each_edge(const Graph& graph, const Body& body) {
    for (std::int64_t i = 0; i < graph.n; ++i)
      for (std::int64_t slot = 0; graph.has_point(i) && slot < graph.k; ++slot) {
        const std::int64_t j = graph.neighbors[i * graph.k + slot];
        if (graph.has_point(j)) body(i, slot, j);
      }
  }
};

// What point i passes on in kLanes channels: `outgoing` (n, kPair) gets, in u's place, the gradient of the edge that
// its maximum comes from and, in v's place, that of every edge; v itself becomes its gradient.
SKELKERN_INLINE void pass_on(const EdgeConvEdges& edges, const BlockTail& tail, const ThroughStatistics& statistics,
                             const float* y_gradient, std::int64_t place, int lanes, std::int64_t channel, float count,
                             float* point, float* outgoing) {
  const Vec gradient =
      tail.through_activation(load_part(edges.extremes + place, lanes), load_part(y_gradient + place, lanes), channel);
  const Vec hit = gradient * load(tail.gamma + channel) * load(tail.inverse_std + channel);
  const Vec factor = load(statistics.factor + channel), v = load(point + kChannels + channel);
  store(outgoing + channel, hit);
  store(outgoing + kChannels + channel, -factor * v);
  store(point + kChannels + channel,
        hit - splat(count) * load(statistics.constant + channel) - factor * load_part(edges.sums + place, lanes));
}

// kStep channels of u of point j become their gradient. slots: of the block's first channel at the cloud's first point,
// c_out apart.
SKELKERN_INLINE void collect_step(const ReverseGraph& reverse, const ThroughStatistics& statistics,
                                  const std::uint8_t* slots, std::int64_t c_out, std::int64_t j, std::int64_t channel,
                                  const Block& block, const float* outgoing, float* point) {
  const std::int32_t begin = reverse.starts[j], end = reverse.starts[j + 1];
  const Vec degree = splat(static_cast<float>(end - begin));
  Vec sum[2];
  for (int half = 0; half < 2; ++half) {
    const std::int64_t at = channel + half * kLanes;
    const Vec edge = load(statistics.constant + at) + load(statistics.factor + at) * load(point + at);
    sum[half] = begin == end ? Vec{} : -degree * edge;
  }
  const int lanes[2] = {block.lanes(channel), block.lanes(channel + kLanes)};
  for (std::int32_t edge = begin; edge < end; ++edge) {
    const std::int64_t i = reverse.edges[edge] >> 8;
    const std::int32_t slot = reverse.edges[edge] & 255;
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const std::int64_t at = channel + half * kLanes;
      const IntVec hits = load_bytes(slots + i * c_out + at, lanes[half]) == slot;
      const float* const from = outgoing + i * kPair + at;
      sum[half] += load(from + kChannels);
      sum[half] += (Vec)((IntVec)load(from) & hits);
    }
  }
  for (int half = 0; half < 2; ++half) store(point + channel + half * kLanes, sum[half]);
}

// Turns u and v of a cloud's points (n, kPair) into their gradients. outgoing (n, kPair) is scratch.
void scatter_block(const EdgeConvProblem& problem, const Graph& graph, const ReverseGraph& reverse,
                   const EdgeConvEdges& edges, const BlockTail& tail, const ThroughStatistics& statistics,
                   const Block& block, const float* y_gradient, std::int64_t cloud, float* points, float* outgoing) {
  const std::int64_t start = cloud * graph.n * problem.c_out + block.first;
  for (std::int64_t i = 0; i < graph.n; ++i) {
    const std::int64_t count = graph.edges(i);
    float* const point = points + i * kPair;
    if (count == 0) std::fill_n(point + kChannels, kChannels, 0.0f);
    for (std::int64_t channel = 0; count > 0 && channel < kChannels; channel += kLanes)
      pass_on(edges, tail, statistics, y_gradient, start + i * problem.c_out + channel, block.lanes(channel), channel,
              static_cast<float>(count), point, outgoing + i * kPair);
  }
  for (std::int64_t j = 0; j < graph.n; ++j)
    for (std::int64_t channel = 0; channel < kChannels; channel += kStep)
      collect_step(reverse, statistics, edges.slots + start, problem.c_out, j, channel, block, outgoing,
                   points + j * kPair);
}

// How backward's work and memory are cut, by the problem's shape alone.
struct BackwardPlan {
  std::int64_t c_padded, blocks;
  std::int64_t clouds, ranges;        // clouds of a range, which has weight gradients of its own
  std::int64_t group_blocks, groups;  // blocks of a group, which has x gradients of its own
  bool direct;                        // x gradients need no memory of their own

  explicit BackwardPlan(const EdgeConvProblem& problem)
      : c_padded(padded_channels(problem)),
        blocks(blocks_of(problem)),
        clouds(ceil_div(problem.b, std::min(problem.b, kRanges))),
        ranges(ceil_div(problem.b, clouds)),
        group_blocks(ceil_div(blocks, std::min(blocks, ceil_div(kFewClouds, problem.b)))),
        groups(ceil_div(blocks, group_blocks)),
        direct(groups == 1 && problem.c == c_padded) {}

  bool copies_x(const EdgeConvProblem& problem) const { return problem.c != c_padded || problem.mask != nullptr; }
  std::int64_t block_floats() const { return kPair * c_padded; }
  std::int64_t weight_floats() const { return ranges * blocks * block_floats(); }
  std::int64_t x_floats(const EdgeConvProblem& problem) const {
    return direct ? 0 : groups * problem.b * problem.n * c_padded;
  }
  std::int64_t scratch_floats(const EdgeConvProblem& problem) const {
    return problem.n * (2 * kPair + (copies_x(problem) ? c_padded : 0)) + ReverseGraph::floats(problem.n, problem.k);
  }
};

// Where partial gradients are: of the weights (ranges, blocks, kPair, c_padded), of x (groups, b, n, c_padded).
struct Partials {
  float *of_weight, *of_x;
};

struct BackwardArguments {
  const EdgeConvProblem& problem;
  const EdgeConvTail& tail;
  const EdgeConvEdges& edges;
  const float* y_gradient;
  const float* means;
  float* x_gradient;
};

// x of a cloud with rows padded to whole vectors, and zeros for points outside the mask, whatever they hold: x itself,
// or a copy in `memory` (n, c_padded).
const float* padded_rows(const EdgeConvProblem& problem, const BackwardPlan& plan, std::int64_t cloud, float* memory) {
  const float* const x = problem.x + cloud * problem.n * problem.c;
  if (!plan.copies_x(problem)) return x;
  const Graph graph(problem, cloud);
  std::fill_n(memory, problem.n * plan.c_padded, 0.0f);
  for (std::int64_t i = 0; i < problem.n; ++i)
    if (graph.has_point(i)) std::copy_n(x + i * problem.c, problem.c, memory + i * plan.c_padded);
  return memory;
}

// What one cloud brings to all its blocks.
struct CloudSources {
  std::int64_t cloud;
  const float* x;  // (n, c_padded)
  ReverseGraph reverse;
};

// Adds one block's part of a cloud's gradients: of x (n, c_padded), of the block's weights (kPair, c_padded). scratch
// (2, n, kPair).
void block_gradients(const BackwardArguments& in, const BackwardPlan& plan, const Weights& weights,
                     const CloudSources& sources, std::int64_t index, bool first_of_x, bool first_of_weight,
                     float* scratch, float* of_x, float* of_weight) {
  const std::int64_t n = in.problem.n;
  float *const points = scratch, *const outgoing = scratch + n * kPair;
  const Block block(index, in.problem.c_out);
  const BlockTail tail(in.problem, in.tail, block);
  const ThroughStatistics statistics(in.problem, tail, block, in.means);
  map_points(in.problem, weights, sources.cloud, index, points);
  scatter_block(in.problem, Graph(in.problem, sources.cloud), sources.reverse, in.edges, tail, statistics, block,
                in.y_gradient, sources.cloud, points, outgoing);
  if (in.x_gradient != nullptr)
    product({points, kPair, 1, weights.rows_of(index), plan.c_padded, of_x, plan.c_padded, kPair, !first_of_x}, n,
            plan.c_padded);
  product({points, 1, kPair, sources.x, plan.c_padded, of_weight, plan.c_padded, n, !first_of_weight}, kPair,
          plan.c_padded);
}

// All gradients that a range of clouds and a group of blocks give.
void range_gradients(const BackwardArguments& in, const BackwardPlan& plan, const Weights& weights, std::int64_t range,
                     std::int64_t group, const Partials& partials, float* scratch) {
  const EdgeConvProblem& problem = in.problem;
  float* const graph_memory = scratch + 2 * problem.n * kPair;
  float* const x_memory = graph_memory + ReverseGraph::floats(problem.n, problem.k);
  const std::int64_t start = range * plan.clouds, end = std::min(problem.b, start + plan.clouds);
  const std::int64_t first = group * plan.group_blocks, last = std::min(plan.blocks, first + plan.group_blocks);
  for (std::int64_t cloud = start; cloud < end; ++cloud) {
    const CloudSources sources{cloud, padded_rows(problem, plan, cloud, x_memory),
                               ReverseGraph(graph_memory, problem.n)};
    sources.reverse.build(Graph(problem, cloud));
    const std::int64_t cloud_floats = problem.n * plan.c_padded;
    float* const of_x =
        plan.direct ? in.x_gradient + cloud * cloud_floats : partials.of_x + (group * problem.b + cloud) * cloud_floats;
    for (std::int64_t index = first; index < last; ++index)
      block_gradients(in, plan, weights, sources, index, index == first, cloud == start, scratch, of_x,
                      partials.of_weight + (range * plan.blocks + index) * plan.block_floats());
  }
}

// Adds the groups' gradients of a cloud in order.
void merge_x(const EdgeConvProblem& problem, const BackwardPlan& plan, std::int64_t cloud, const float* of_x,
             float* x_gradient) {
  for (std::int64_t i = 0; i < problem.n; ++i)
    for (std::int64_t d = 0; d < problem.c; ++d) {
      float sum = 0.0f;
      for (std::int64_t group = 0; group < plan.groups; ++group)
        sum += of_x[((group * problem.b + cloud) * problem.n + i) * plan.c_padded + d];
      x_gradient[(cloud * problem.n + i) * problem.c + d] = sum;
    }
}

// Adds the ranges' gradients of a block in order: those of u and v become those of W1 and W2.
void merge_weight(const EdgeConvProblem& problem, const BackwardPlan& plan, std::int64_t index, const float* of_weight,
                  float* weight_gradient) {
  const Block block(index, problem.c_out);
  for (std::int64_t channel = 0; channel < block.width; ++channel)
    for (std::int64_t d = 0; d < problem.c; ++d) {
      float of_u = 0.0f, of_v = 0.0f;
      for (std::int64_t range = 0; range < plan.ranges; ++range) {
        const float* const own = of_weight + (range * plan.blocks + index) * plan.block_floats();
        of_u += own[channel * plan.c_padded + d];
        of_v += own[(kChannels + channel) * plan.c_padded + d];
      }
      float* const row = weight_gradient + (block.first + channel) * 2 * problem.c;
      row[d] = of_u - of_v;
      row[problem.c + d] = of_v;
    }
}

bool backward(const EdgeConvProblem& problem, const EdgeConvTail& tail, const EdgeConvEdges& edges,
              const float* y_gradient, const float* means, float* x_gradient, float* weight_gradient) {
  const BackwardPlan plan(problem);
  const std::int64_t packed = round_up(Weights::floats(problem), 16);
  const std::int64_t floats = packed + plan.weight_floats() + plan.x_floats(problem);
  float* const memory = thread_scratch(Slot::workspace, static_cast<std::size_t>(floats));
  Weights weights{};
  if (memory == nullptr || !pack(problem, memory, &weights)) return false;
  const Partials partials{memory + packed, memory + packed + plan.weight_floats()};
  const BackwardArguments arguments{problem, tail, edges, y_gradient, means, x_gradient};
  return parallel_chunks(
             plan.ranges * plan.groups, problem.threads, static_cast<std::size_t>(plan.scratch_floats(problem)),
             [&](std::int64_t task, float* scratch) {
               range_gradients(arguments, plan, weights, task / plan.groups, task % plan.groups, partials, scratch);
             }) &&
         parallel_chunks(
             plan.direct || x_gradient == nullptr ? 0 : problem.b, problem.threads, 0,
             [&](std::int64_t cloud, float*) { merge_x(problem, plan, cloud, partials.of_x, x_gradient); }) &&
         parallel_chunks(plan.blocks, problem.threads, 0, [&](std::int64_t index, float*) {
           merge_weight(problem, plan, index, partials.of_weight, weight_gradient);
         });
}

}  // namespace

extern const EdgeConv edge_conv;
const EdgeConv edge_conv{gather, finish, reduce, backward};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
