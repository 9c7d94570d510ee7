// A block of frames is turned into rows of channels, one row for each (joint, frame): lanes run over channels, so that
// the sums over neighbours are scaled additions of rows, and every product has weights or rows as its operands as they
// lie.
//   z[(w, f)][(k, c)] = sum_v A_k[v, w] x[(v, f)][c]            aggregated neighbours, only where A_k reaches w
//   y[(w, f)][c'] = sum_(k, c) z[(w, f)][(k, c)] W[(k, c)][c'] + sum_k b_k[c'] sum_v A_k[v, w]
#include <algorithm>
#include <utility>

#include "common/parallel.h"
#include "common/tile.h"
#include "graph_conv/frames.h"
#include "graph_conv/graph_conv.h"
#include "graph_conv/support.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kPanel = 48;                // columns of a weight panel: whole register tiles at every level
constexpr std::int64_t kBlockFloats = 192 * 1024;  // rows of one block of frames stay in L2
constexpr std::int64_t kMostTasks = 16;            // partial sums of backward, merged in order
constexpr int kDotTile = kLanes == 16 ? 5 : 3;     // kDotTile^2 accumulators of the adjacency's gradient

// Sizes that follow from the problem's shape.
struct Plan {
  std::int64_t kc;                // k * c: depth of the forward product
  std::int64_t ld_x, ld_z, ld_y;  // leading dimensions of rows: c, (k, c), c_out channels
  std::int64_t frames;            // frames of a block
  std::int64_t blocks;            // blocks of a sample
  std::int64_t rows;              // rows of a block

  explicit Plan(const GraphConvProblem& p) {
    kc = p.k * p.c;
    ld_x = padded(p.c);
    ld_z = padded(kc + kLanes);  // a slot's last vector may reach beyond it
    ld_y = padded(p.c_out);
    const std::int64_t most = std::max<std::int64_t>(1, kBlockFloats / (p.v * (ld_x + ld_z + ld_y)));
    blocks = ceil_div(p.t, most);
    frames = ceil_div(p.t, blocks);
    blocks = ceil_div(p.t, frames);
    rows = p.v * frames;
  }
};

// A block's place: sample and first frame.
struct Block {
  std::int64_t sample, first, frames;

  Block(const GraphConvProblem& p, const Plan& plan, std::int64_t index)
      : sample(index / plan.blocks),
        first(index % plan.blocks * plan.frames),
        frames(std::min(plan.frames, p.t - first)) {}

  // First float of this block in an array (n, channels, t, v).
  std::int64_t offset(const GraphConvProblem& p, std::int64_t channels) const {
    return (sample * channels * p.t + first) * p.v;
  }
};

template <class T>
T* take(float*& memory, std::int64_t floats) {
  return reinterpret_cast<T*>(std::exchange(memory, memory + round_up(floats, 16)));
}

// A right operand (depth, columns) as panels of kPanel columns: (panels, depth, kPanel), zero-padded.
struct Panels {
  std::int64_t depth, columns;
  float* data;

  std::int64_t floats() const { return ceil_div(columns, kPanel) * depth * kPanel; }
};

// Weight as right operand of the forward product: rows (k, c), columns c_out.
void pack_forward(const GraphConvProblem& p, const Panels& panels) {
  std::fill_n(panels.data, panels.floats(), 0.0f);
  for (std::int64_t column = 0; column < p.c_out; column += kPanel) {
    const std::int64_t columns = std::min(kPanel, p.c_out - column);
    float* panel = panels.data + column * panels.depth;
    for (std::int64_t k = 0; k < p.k; ++k)
      transpose(p.weight + (k * p.c_out + column) * p.c, p.c, columns, p.c, panel + k * p.c * kPanel, kPanel);
  }
}

// Weight as right operand of the gradient by z: rows c_out, columns (k, c).
void pack_backward(const GraphConvProblem& p, const Panels& panels) {
  std::fill_n(panels.data, panels.floats(), 0.0f);
  for (std::int64_t row = 0; row < p.k * p.c_out; ++row) {
    const std::int64_t k = row / p.c_out, c_out = row % p.c_out;
    for (std::int64_t c = 0; c < p.c;) {
      const std::int64_t column = k * p.c + c, within = column % kPanel, length = std::min(kPanel - within, p.c - c);
      float* panel = panels.data + column / kPanel * panels.depth * kPanel;
      std::copy_n(p.weight + row * p.c + c, length, panel + c_out * kPanel + within);
      c += length;
    }
  }
}

// target (rows, ld) [+]= a (rows, depth) times rows [first, first + depth) of the panels.
void multiply_panels(const float* a, std::int64_t lda, const Panels& panels, std::int64_t first, std::int64_t depth,
                     std::int64_t rows, bool accumulate, float* target, std::int64_t ld) {
  for (std::int64_t column = 0; column < panels.columns; column += kPanel) {
    const float* b = panels.data + column * panels.depth + first * kPanel;
    const std::int64_t columns = round_up(std::min(kPanel, panels.columns - column), kLanes);
    product({a, lda, 1, b, kPanel, target + column, ld, depth, accumulate}, rows, columns);
  }
}

// Everything that one block of frames is computed in; rows are ordered by the support's groups except those of x.
struct Rows {
  FrameRows x, y;
  float* z;  // (rows, ld_z)

  static std::int64_t floats(const GraphConvProblem& p, const Plan& plan) {
    return round_up(plan.rows * plan.ld_x, 16) + plan.rows * (plan.ld_y + plan.ld_z) + round_up(p.v, 16) + 64;
  }

  Rows(const GraphConvProblem& p, const Plan& plan, float* memory) {
    float* x_rows = take<float>(memory, plan.rows * plan.ld_x);
    float* y_rows = take<float>(memory, plan.rows * plan.ld_y);
    z = take<float>(memory, plan.rows * plan.ld_z);
    auto* natural = take<std::int32_t>(memory, p.v);  // (v): 0, 1, ..., v - 1
    for (std::int64_t joint = 0; joint < p.v; ++joint) natural[joint] = static_cast<std::int32_t>(joint);
    x = {0, p.v, p.c, natural, plan.ld_x, x_rows};
    y = {0, p.v, p.c_out, nullptr, plan.ld_y, y_rows};
  }

  void begin(const Block& block, const Support& support) {
    x.frames = y.frames = block.frames;
    y.joint_row = support.row();
  }
};

// Consecutive rows, one for each frame.
struct Target {
  float* rows;
  std::int64_t ld;
};

// FRAMES rows and VECS vectors of channels of target = sum over edges of edge.value * row_of(edge), rows `ld` apart.
template <int FRAMES, int VECS, class RowOf>
SKELKERN_INLINE void add_up_tile(const Edge* begin, const Edge* end, const RowOf& row_of, std::int64_t ld,
                                 std::int64_t c, std::int64_t f, const Target& target) {
  Vec sum[FRAMES][VECS] = {};
  for (const Edge* edge = begin; edge != end; ++edge) {
    const float* row = row_of(*edge) + f * ld + c;
#pragma GCC unroll 4
    for (int j = 0; j < FRAMES; ++j)
#pragma GCC unroll 4
      for (int i = 0; i < VECS; ++i) sum[j][i] += edge->value * load(row + j * ld + i * kLanes);
  }
#pragma GCC unroll 4
  for (int j = 0; j < FRAMES; ++j)
#pragma GCC unroll 4
    for (int i = 0; i < VECS; ++i) store(target.rows + (f + j) * target.ld + c + i * kLanes, sum[j][i]);
}

// All frames and channels, the last vector of channels whole. Four sums at a time: of channels where there are enough.
template <class RowOf>
SKELKERN_INLINE void add_up(const Edge* begin, const Edge* end, const RowOf& row_of, std::int64_t ld,
                            std::int64_t channels, std::int64_t frames, const Target& target) {
  std::int64_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes)
    for (std::int64_t f = 0; f < frames; ++f) add_up_tile<1, 4>(begin, end, row_of, ld, c, f, target);
  for (; c < channels; c += kLanes) {
    std::int64_t f = 0;
    for (; f + 4 <= frames; f += 4) add_up_tile<4, 1>(begin, end, row_of, ld, c, f, target);
    for (; f < frames; ++f) add_up_tile<1, 1>(begin, end, row_of, ld, c, f, target);
  }
}

// z of every joint that a subset reaches: slots of the subsets that reach a joint lie side by side in its rows.
void aggregate(const GraphConvProblem& p, const Plan& plan, const Support& support, const Rows& rows) {
  const std::int64_t frames = rows.x.frames;
  for (std::int64_t w = 0; w < p.v; ++w) {
    float* slot = rows.z + support.row()[w] * frames * plan.ld_z;
    for (std::int64_t k = 0; k < p.k; ++k) {
      if (!support.reaches(k, w)) continue;
      const Edge *begin = support.targets_begin(k, w), *end = support.targets_end(k, w);
      const auto row_of = [&](const Edge& edge) { return rows.x.row(edge.source, 0); };
      add_up(begin, end, row_of, plan.ld_x, p.c, frames, {slot, plan.ld_z});
      slot += p.c;
    }
  }
}

// Calls body(first row, rows, first slot, first subset, last subset) for every run of subsets of every group of joints.
template <class Body>
void each_run(const Support& support, std::int64_t frames, const Body& body) {
  for (const JointGroup* group = support.groups_begin(); group != support.groups_end(); ++group) {
    std::int64_t slot = 0, first = 0, last = 0;
    for (; support.next_run(group->subsets, first, last); slot += last - first, first = last)
      body(group->first * frames, group->count * frames, slot, first, last);
  }
}

// bias_rows (v, ld_y): what the bias adds to every frame of a joint.
void add_up_bias(const GraphConvProblem& p, const Plan& plan, const Support& support, float* bias_rows) {
  std::fill_n(bias_rows, p.v * plan.ld_y, 0.0f);
  if (p.bias == nullptr) return;
  for (std::int64_t w = 0; w < p.v; ++w)
    for (std::int64_t k = 0; k < p.k; ++k) {
      const float column_sum = support.column_sum(k, w);
      for (std::int64_t c = 0; c < p.c_out; ++c) bias_rows[w * plan.ld_y + c] += column_sum * p.bias[k * p.c_out + c];
    }
}

void forward_block(const GraphConvProblem& p, const Plan& plan, const Support& support, const Panels& weight,
                   const float* bias_rows, const Block& block, Rows& rows, float* y) {
  rows.begin(block, support);
  gather_frames(p.x + block.offset(p, p.c), p.t * p.v, rows.x);
  aggregate(p, plan, support, rows);
  for (std::int64_t w = 0; w < p.v; ++w)
    for (std::int64_t f = 0; f < block.frames; ++f)
      std::copy_n(bias_rows + w * plan.ld_y, round_up(p.c_out, kLanes), rows.y.row(w, f));
  each_run(support, block.frames,
           [&](std::int64_t first, std::int64_t count, std::int64_t slot, std::int64_t k, std::int64_t end) {
             multiply_panels(rows.z + first * plan.ld_z + slot * p.c, plan.ld_z, weight, k * p.c, (end - k) * p.c,
                             count, true, rows.y.rows + first * plan.ld_y, plan.ld_y);
           });
  scatter_frames(rows.y, y + block.offset(p, p.c_out), p.t * p.v);
}

// The adjacency's support and what hangs on it: once for a shared adjacency, once per sample otherwise.
struct SampleSupport {
  Support support;
  float* bias_rows;

  static std::int64_t floats(const GraphConvProblem& p, const Plan& plan) {
    return round_up(Support::floats(p.k, p.v), 16) + round_up(p.v * plan.ld_y, 16) + 16;
  }

  SampleSupport(const GraphConvProblem& p, const Plan& plan, std::int64_t sample, float* memory)
      : support(p.adjacency + (p.per_sample ? sample * p.k * p.v * p.v : 0), p.k, p.v,
                take<float>(memory, Support::floats(p.k, p.v))),
        bias_rows(take<float>(memory, p.v * plan.ld_y)) {
    add_up_bias(p, plan, support, bias_rows);
  }
};

bool forward(const GraphConvProblem& p, float* y) {
  const Plan plan(p);
  Panels weight{plan.kc, p.c_out, nullptr};
  const std::int64_t support_floats = SampleSupport::floats(p, plan);
  float* workspace = thread_scratch(Slot::workspace, static_cast<std::size_t>(support_floats + weight.floats() + 32));
  if (workspace == nullptr) return false;
  float* const shared_memory = take<float>(workspace, support_floats);
  weight.data = take<float>(workspace, weight.floats());
  pack_forward(p, weight);
  const SampleSupport shared(p, plan, 0, shared_memory);
  const std::size_t scratch_floats = static_cast<std::size_t>(Rows::floats(p, plan) + support_floats);
  // whole samples, where there are enough of them, need each support of their own once
  const std::int64_t blocks_per_task = p.per_sample && p.n >= p.threads ? plan.blocks : 1;
  return parallel_chunks(
      p.n * plan.blocks / blocks_per_task, p.threads, scratch_floats, [&](std::int64_t task, float* scratch) {
        const std::int64_t first = task * blocks_per_task, sample = first / plan.blocks;
        const SampleSupport used = p.per_sample ? SampleSupport(p, plan, sample, scratch) : shared;
        Rows rows(p, plan, scratch + support_floats);
        for (std::int64_t index = first; index < first + blocks_per_task; ++index)
          forward_block(p, plan, used.support, weight, used.bias_rows, Block(p, plan, index), rows, y);
      });
}

// Sums over the blocks of one task of backward.
struct Partial {
  float* weight;     // (k * c, ld_y)
  float* bias;       // (k, ld_y)
  float* adjacency;  // (k, v, v, kLanes), lanes still to be added
  float* y_sums;     // (v, ld_y): gradient of y summed over frames, by joint

  static std::int64_t floats(const GraphConvProblem& p, const Plan& plan) {
    return (plan.kc + p.k + p.v) * plan.ld_y + round_up(adjacency_floats(p), 16);
  }
  static std::int64_t adjacency_floats(const GraphConvProblem& p) { return p.k * p.v * p.v * kLanes; }

  Partial(const GraphConvProblem& p, const Plan& plan, float* memory)
      : weight(take<float>(memory, plan.kc * plan.ld_y)),
        bias(take<float>(memory, p.k * plan.ld_y)),
        adjacency(take<float>(memory, adjacency_floats(p))),
        y_sums(take<float>(memory, p.v * plan.ld_y)) {}
};

// partial.weight[(k, c)][c'] += sum over rows of z[row][(k, c)] y[row][c'].
void add_weight_gradient(const GraphConvProblem& p, const Plan& plan, const Support& support, const Rows& rows,
                         const Partial& partial) {
  each_run(support, rows.y.frames,
           [&](std::int64_t first, std::int64_t count, std::int64_t slot, std::int64_t k, std::int64_t end) {
             const float* z = rows.z + first * plan.ld_z + slot * p.c;
             product({z, 1, plan.ld_z, rows.y.rows + first * plan.ld_y, plan.ld_y, partial.weight + k * p.c * plan.ld_y,
                      plan.ld_y, count, true},
                     (end - k) * p.c, round_up(p.c_out, kLanes));
           });
}

void add_y_sums(const GraphConvProblem& p, const Plan& plan, const Rows& rows, const Partial& partial) {
  for (std::int64_t w = 0; w < p.v; ++w)
    for (std::int64_t c = 0; c < p.c_out; c += kLanes) {
      Vec sum = load(partial.y_sums + w * plan.ld_y + c);
      for (std::int64_t f = 0; f < rows.y.frames; ++f) sum += load(rows.y.row(w, f) + c);
      store(partial.y_sums + w * plan.ld_y + c, sum);
    }
}

// One tile of partial.adjacency of subset k: sources from `source` on, targets from `target` on. Beyond the last joint
// the last one is computed again and not kept. g (rows, ld_z): gradient by z, all subsets in their slots.
SKELKERN_INLINE void add_adjacency_tile(const GraphConvProblem& p, const Plan& plan, const Rows& rows, std::int64_t k,
                                        std::int64_t source, std::int64_t target, float* adjacency) {
  const float *x[kDotTile], *g[kDotTile];
  for (int i = 0; i < kDotTile; ++i) {
    x[i] = rows.x.row(std::min(source + i, p.v - 1), 0);
    g[i] = rows.z + rows.y.joint_row[std::min(target + i, p.v - 1)] * rows.y.frames * plan.ld_z + k * p.c;
  }
  Vec sum[kDotTile][kDotTile] = {};
  const auto add = [&](std::int64_t of_x_row, std::int64_t of_g_row) __attribute__((always_inline)) {
    Vec of_x[kDotTile];
#pragma GCC unroll 5
    for (int i = 0; i < kDotTile; ++i) of_x[i] = load(x[i] + of_x_row);
#pragma GCC unroll 5
    for (int j = 0; j < kDotTile; ++j) {
      const Vec of_g = load(g[j] + of_g_row);
#pragma GCC unroll 5
      for (int i = 0; i < kDotTile; ++i) sum[i][j] += of_x[i] * of_g;
    }
  };
  // the longer loop inside
  const std::int64_t frames = rows.x.frames;
  if (frames * kLanes >= p.c)
    for (std::int64_t c = 0; c < p.c; c += kLanes)
      for (std::int64_t f = 0; f < frames; ++f) add(f * plan.ld_x + c, f * plan.ld_z + c);
  else
    for (std::int64_t f = 0; f < frames; ++f)
      for (std::int64_t c = 0; c < p.c; c += kLanes) add(f * plan.ld_x + c, f * plan.ld_z + c);
  for (int i = 0; i < kDotTile && source + i < p.v; ++i)
    for (int j = 0; j < kDotTile && target + j < p.v; ++j) {
      float* lanes = adjacency + (((k * p.v) + source + i) * p.v + target + j) * kLanes;
      store(lanes, load(lanes) + sum[i][j]);
    }
}

void add_adjacency_gradient(const GraphConvProblem& p, const Plan& plan, const Rows& rows, const Partial& partial) {
  for (std::int64_t k = 0; k < p.k; ++k)
    for (std::int64_t target = 0; target < p.v; target += kDotTile)
      for (std::int64_t source = 0; source < p.v; source += kDotTile)
        add_adjacency_tile(p, plan, rows, k, source, target, partial.adjacency);
}

// x[(v, f)][c] = sum over edges out of v of A_k[v, w] g[(w, f)][(k, c)], in place of the input's rows.
void gather_x_gradient(const GraphConvProblem& p, const Plan& plan, const Support& support, const Rows& rows) {
  const std::int64_t frames = rows.x.frames;
  const auto row_of = [&](const Edge& edge) {
    return rows.z + support.row()[edge.target] * frames * plan.ld_z + edge.subset * p.c;
  };
  for (std::int64_t v = 0; v < p.v; ++v)
    add_up(support.sources_begin(v), support.sources_end(v), row_of, plan.ld_z, p.c, frames,
           {rows.x.row(v, 0), plan.ld_x});
}

// The last slot's last vector reads behind it, where the zero padding of x must not meet a NaN.
void clear_behind_slots(const GraphConvProblem& p, const Plan& plan, const Rows& rows) {
  for (std::int64_t row = 0; row < p.v * rows.x.frames; ++row) store(rows.z + row * plan.ld_z + plan.kc, Vec{});
}

void backward_block(const GraphConvProblem& p, const Plan& plan, const Support& support, const Panels& weight,
                    const Block& block, const float* y_gradient, const GraphConvGradients& gradients,
                    const Partial& partial, Rows& rows) {
  rows.begin(block, support);
  gather_frames(y_gradient + block.offset(p, p.c_out), p.t * p.v, rows.y);
  gather_frames(p.x + block.offset(p, p.c), p.t * p.v, rows.x);
  if (gradients.weight != nullptr) {
    aggregate(p, plan, support, rows);
    add_weight_gradient(p, plan, support, rows, partial);
  }
  if (gradients.bias != nullptr || gradients.adjacency != nullptr) add_y_sums(p, plan, rows, partial);
  if (gradients.x == nullptr && gradients.adjacency == nullptr) return;
  multiply_panels(rows.y.rows, plan.ld_y, weight, 0, p.c_out, p.v * block.frames, false, rows.z, plan.ld_z);
  if (gradients.adjacency != nullptr) {
    if (p.c % kLanes != 0) clear_behind_slots(p, plan, rows);
    add_adjacency_gradient(p, plan, rows, partial);
  }
  if (gradients.x != nullptr) {
    gather_x_gradient(p, plan, support, rows);
    scatter_frames(rows.x, gradients.x + block.offset(p, p.c), p.t * p.v);
  }
}

// Turns the sums over frames into what the bias gets and what the adjacency gets through the bias, for blocks that
// share this support, and starts them anew.
void use_y_sums(const GraphConvProblem& p, const Plan& plan, const Support& support, const Partial& partial) {
  for (std::int64_t k = 0; k < p.k; ++k)
    for (std::int64_t w = 0; w < p.v; ++w) {
      const float* sums = partial.y_sums + w * plan.ld_y;
      const float column_sum = support.column_sum(k, w);
      for (std::int64_t c = 0; c < p.c_out; ++c) partial.bias[k * plan.ld_y + c] += column_sum * sums[c];
      if (p.bias == nullptr) continue;
      float of_bias = 0.0f;
      for (std::int64_t c = 0; c < p.c_out; ++c) of_bias += sums[c] * p.bias[k * p.c_out + c];
      for (std::int64_t v = 0; v < p.v; ++v) partial.adjacency[((k * p.v + v) * p.v + w) * kLanes] += of_bias;
    }
  std::fill_n(partial.y_sums, p.v * plan.ld_y, 0.0f);
}

// adjacency (k, v, v) = partial sums of all tasks, `stride` floats apart, for entries [first, last).
void merge_adjacency(const float* partial, std::int64_t tasks, std::int64_t stride, std::int64_t first,
                     std::int64_t last, float* adjacency) {
  for (std::int64_t entry = first; entry < last; ++entry) {
    Vec sum{};
    for (std::int64_t task = 0; task < tasks; ++task) sum += load(partial + task * stride + entry * kLanes);
    adjacency[entry] = sum_lanes(sum);
  }
}

// Rows [row, row + rows) of (k, c), all of one subset, transposed into weight (k, c_out, c). scratch (rows, ld_y).
void merge_weight(const GraphConvProblem& p, const Plan& plan, const float* partial, std::int64_t tasks,
                  std::int64_t stride, std::int64_t row, std::int64_t rows, float* scratch, float* weight) {
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t c = 0; c < p.c_out; c += kLanes) {
      Vec sum{};
      for (std::int64_t task = 0; task < tasks; ++task)
        sum += load(partial + task * stride + (row + i) * plan.ld_y + c);
      store(scratch + i * plan.ld_y + c, sum);
    }
  transpose(scratch, plan.ld_y, rows, p.c_out, weight + row / p.c * p.c_out * p.c + row % p.c, p.c);
}

void merge_bias(const GraphConvProblem& p, const Plan& plan, const float* partial, std::int64_t tasks,
                std::int64_t stride, float* bias) {
  for (std::int64_t i = 0; i < p.k * p.c_out; ++i) {
    bias[i] = 0.0f;
    for (std::int64_t task = 0; task < tasks; ++task)
      bias[i] += partial[task * stride + i / p.c_out * plan.ld_y + i % p.c_out];
  }
}

// Backward cuts the blocks into tasks, each with partial sums of its own; with an adjacency per sample, whole samples.
struct Tasks {
  std::int64_t blocks, blocks_per_task, count, stride;

  Tasks(const GraphConvProblem& p, const Plan& plan) : blocks(p.n * plan.blocks), stride(Partial::floats(p, plan)) {
    const std::int64_t unit = p.per_sample ? plan.blocks : 1;
    blocks_per_task = unit * ceil_div(blocks / unit, kMostTasks);
    count = ceil_div(blocks, blocks_per_task);
  }
};

bool merge(const GraphConvProblem& p, const Plan& plan, const Tasks& tasks, float* partials,
           const GraphConvGradients& gradients) {
  const Partial first(p, plan, partials);
  constexpr std::int64_t kRowsOfMerge = 16;
  const std::int64_t chunks_of_subset = ceil_div(p.c, kRowsOfMerge), chunks = p.k * chunks_of_subset;
  if (gradients.bias != nullptr) merge_bias(p, plan, first.bias, tasks.count, tasks.stride, gradients.bias);
  if (gradients.adjacency != nullptr && !p.per_sample)
    merge_adjacency(first.adjacency, tasks.count, tasks.stride, 0, p.k * p.v * p.v, gradients.adjacency);
  if (gradients.weight == nullptr) return true;
  return parallel_chunks(
      chunks, p.threads, static_cast<std::size_t>(kRowsOfMerge * plan.ld_y), [&](std::int64_t chunk, float* scratch) {
        const std::int64_t c = chunk % chunks_of_subset * kRowsOfMerge, row = chunk / chunks_of_subset * p.c + c;
        merge_weight(p, plan, first.weight, tasks.count, tasks.stride, row, std::min(kRowsOfMerge, p.c - c), scratch,
                     gradients.weight);
      });
}

// The blocks of one task, in order.
void backward_task(const GraphConvProblem& p, const Plan& plan, const Tasks& tasks, std::int64_t task,
                   const SampleSupport& shared, const Panels& weight, const float* y_gradient,
                   const GraphConvGradients& gradients, const Partial& partial, float* scratch) {
  float* const rows_memory = scratch + SampleSupport::floats(p, plan);
  Rows rows(p, plan, rows_memory);
  const std::int64_t first = task * tasks.blocks_per_task;
  const std::int64_t last = std::min(tasks.blocks, first + tasks.blocks_per_task);
  const std::int64_t entries = p.k * p.v * p.v;
  for (std::int64_t index = first; index < last; index += p.per_sample ? plan.blocks : last - first) {
    const std::int64_t end = p.per_sample ? index + plan.blocks : last, sample = index / plan.blocks;
    const Support support = p.per_sample ? SampleSupport(p, plan, sample, scratch).support : shared.support;
    for (std::int64_t i = index; i < end; ++i)
      backward_block(p, plan, support, weight, Block(p, plan, i), y_gradient, gradients, partial, rows);
    use_y_sums(p, plan, support, partial);
    if (!p.per_sample || gradients.adjacency == nullptr) continue;
    merge_adjacency(partial.adjacency, 1, 0, 0, entries, gradients.adjacency + sample * entries);
    std::fill_n(partial.adjacency, Partial::adjacency_floats(p), 0.0f);
  }
}

bool backward(const GraphConvProblem& p, const float* y_gradient, const GraphConvGradients& gradients) {
  const Plan plan(p);
  const Tasks tasks(p, plan);
  Panels weight{p.c_out, plan.kc, nullptr};
  const std::int64_t support_floats = SampleSupport::floats(p, plan);
  float* workspace = thread_scratch(
      Slot::workspace, static_cast<std::size_t>(support_floats + weight.floats() + tasks.count * tasks.stride + 32));
  if (workspace == nullptr) return false;
  float* const shared_memory = take<float>(workspace, support_floats);
  weight.data = take<float>(workspace, weight.floats());
  float* const partials = workspace;
  pack_backward(p, weight);
  const SampleSupport shared(p, plan, 0, shared_memory);
  const std::size_t scratch_floats = static_cast<std::size_t>(Rows::floats(p, plan) + support_floats);
  return parallel_chunks(tasks.count, p.threads, scratch_floats,
                         [&](std::int64_t task, float* scratch) {
                           std::fill_n(partials + task * tasks.stride, tasks.stride, 0.0f);
                           const Partial partial(p, plan, partials + task * tasks.stride);
                           backward_task(p, plan, tasks, task, shared, weight, y_gradient, gradients, partial, scratch);
                         }) &&
         merge(p, plan, tasks, partials, gradients);
}

}  // namespace

extern const GraphConv graph_conv;
const GraphConv graph_conv{forward, backward};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
