// Python bindings: addresses and sizes in, nothing checked here (skelkern/ops checks), the GIL released while running.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "block_tail/block_tail.h"
#include "chamfer/chamfer.h"
#include "common/c_library.h"
#include "common/kept_memory.h"
#include "common/levels.h"
#include "common/parallel.h"
#include "cosine_topk/cosine_topk.h"
#include "cross_correlation/cross_correlation.h"
#include "edge_conv/edge_conv.h"
#include "farthest_points/farthest_points.h"
#include "graph_conv/graph_conv.h"
#include "gru/gru.h"
#include "info_nce/info_nce.h"
#include "knn/knn.h"
#include "linear/linear.h"
#include "ntu_skeleton/ntu_skeleton.h"
#include "peak/peak.h"
#include "sample_clips/sample_clips.h"
#include "temporal_conv/temporal_conv.h"

namespace {

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void require(bool had_memory) {
  if (!had_memory) throw std::bad_alloc();
}

double cross_correlation_forward(std::uintptr_t z1, std::uintptr_t z2, std::int64_t n, std::int64_t d,
                                 float off_diagonal_weight, float eps, std::uintptr_t statistics,
                                 std::uintptr_t products, int threads) {
  double loss = 0.0;
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(cross_correlation)
              .forward({{pointer<const float>(z1), pointer<const float>(z2)}, n, d, off_diagonal_weight, eps, threads},
                       {pointer<float>(statistics), pointer<float>(products)}, &loss));
  return loss;
}

void cross_correlation_backward(std::uintptr_t z1, std::uintptr_t z2, std::int64_t n, std::int64_t d,
                                float off_diagonal_weight, std::uintptr_t statistics, std::uintptr_t products,
                                float loss_gradient, std::uintptr_t gradient1, std::uintptr_t gradient2, int threads) {
  float* const gradients[2] = {pointer<float>(gradient1), pointer<float>(gradient2)};
  pybind11::gil_scoped_release release;
  require(
      SKELKERN_PICK(cross_correlation)
          .backward({{pointer<const float>(z1), pointer<const float>(z2)}, n, d, off_diagonal_weight, 0.0f, threads},
                    {pointer<float>(statistics), pointer<float>(products)}, loss_gradient, gradients));
}

// sizes: (b, n, d, m)
void farthest_points(std::uintptr_t points, std::uintptr_t mask, const std::array<std::int64_t, 4>& sizes,
                     std::int64_t start, int threads, std::uintptr_t picks) {
  const auto [b, n, d, m] = sizes;
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(farthest_points)
              .run({pointer<const float>(points), pointer<const bool>(mask), b, n, d, m, start, threads},
                   pointer<std::int64_t>(picks)));
}

// sizes: (n, c, t, v, k, c_out)
skelkern::GraphConvProblem graph_conv_problem(std::uintptr_t x, std::uintptr_t weight, std::uintptr_t bias,
                                              std::uintptr_t adjacency, const std::array<std::int64_t, 6>& sizes,
                                              bool per_sample, int threads) {
  const auto [n, c, t, v, k, c_out] = sizes;
  return {pointer<const float>(x),
          pointer<const float>(weight),
          pointer<const float>(bias),
          pointer<const float>(adjacency),
          n,
          c,
          t,
          v,
          k,
          c_out,
          per_sample,
          threads};
}

void graph_conv_forward(std::uintptr_t x, std::uintptr_t weight, std::uintptr_t bias, std::uintptr_t adjacency,
                        const std::array<std::int64_t, 6>& sizes, bool per_sample, int threads, std::uintptr_t y) {
  pybind11::gil_scoped_release release;
  const auto problem = graph_conv_problem(x, weight, bias, adjacency, sizes, per_sample, threads);
  require(SKELKERN_PICK(graph_conv).forward(problem, pointer<float>(y)));
}

void graph_conv_backward(std::uintptr_t x, std::uintptr_t weight, std::uintptr_t bias, std::uintptr_t adjacency,
                         const std::array<std::int64_t, 6>& sizes, bool per_sample, int threads,
                         std::uintptr_t y_gradient, const std::array<std::uintptr_t, 4>& gradients) {
  pybind11::gil_scoped_release release;
  const auto problem = graph_conv_problem(x, weight, bias, adjacency, sizes, per_sample, threads);
  require(SKELKERN_PICK(graph_conv)
              .backward(problem, pointer<const float>(y_gradient),
                        {pointer<float>(gradients[0]), pointer<float>(gradients[1]), pointer<float>(gradients[2]),
                         pointer<float>(gradients[3])}));
}

// arrays: (x, starts, h0, c0); weights: (input, recurrent, input_bias, recurrent_bias) of either direction; sizes:
// (n, steps, in, hidden, directions); order: (batch_first, reverse)
skelkern::GruProblem gru_problem(const std::array<std::uintptr_t, 4>& arrays,
                                 const std::array<std::uintptr_t, 8>& weights, const std::array<std::int64_t, 5>& sizes,
                                 const std::array<bool, 2>& order, int threads) {
  const auto [n, steps, in, hidden, directions] = sizes;
  skelkern::GruProblem problem{pointer<const float>(arrays[0]),
                               pointer<const std::int64_t>(arrays[1]),
                               pointer<const float>(arrays[2]),
                               pointer<const float>(arrays[3]),
                               {},
                               n,
                               steps,
                               in,
                               hidden,
                               directions,
                               order[0],
                               order[1],
                               threads};
  for (std::size_t i = 0; i < 2; ++i)
    problem.weights[i] = {pointer<const float>(weights[4 * i]), pointer<const float>(weights[4 * i + 1]),
                          pointer<const float>(weights[4 * i + 2]), pointer<const float>(weights[4 * i + 3])};
  return problem;
}

// results: (y, h, c, trace)
void gru_forward(const std::array<std::uintptr_t, 4>& arrays, const std::array<std::uintptr_t, 8>& weights,
                 const std::array<std::int64_t, 5>& sizes, const std::array<bool, 2>& order, int threads,
                 const std::array<std::uintptr_t, 4>& results) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(gru).forward(gru_problem(arrays, weights, sizes, order, threads),
                                     {pointer<float>(results[0]), pointer<float>(results[1]),
                                      pointer<float>(results[2]), pointer<float>(results[3])}));
}

// results: (y, trace) of forward; incoming: gradients of (y, h, c); gradients: of (x, h0, c0) and the weights
void gru_backward(const std::array<std::uintptr_t, 4>& arrays, const std::array<std::uintptr_t, 8>& weights,
                  const std::array<std::int64_t, 5>& sizes, const std::array<bool, 2>& order, int threads,
                  const std::array<std::uintptr_t, 2>& results, const std::array<std::uintptr_t, 3>& incoming,
                  std::uintptr_t slopes, const std::array<std::uintptr_t, 11>& gradients) {
  std::array<float*, 11> g;
  for (std::size_t i = 0; i < g.size(); ++i) g[i] = pointer<float>(gradients[i]);
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(gru).backward(
      gru_problem(arrays, weights, sizes, order, threads),
      {pointer<float>(results[0]), nullptr, nullptr, pointer<float>(results[1])},
      {pointer<const float>(incoming[0]), pointer<const float>(incoming[1]), pointer<const float>(incoming[2])},
      pointer<float>(slopes), {g[0], g[1], g[2], {{g[3], g[4], g[5], g[6]}, {g[7], g[8], g[9], g[10]}}}));
}

// arrays: (points of either side, masks of either side, weights); sizes: (b, n of either side, d)
skelkern::ChamferProblem chamfer_problem(const std::array<std::uintptr_t, 5>& arrays,
                                         const std::array<std::int64_t, 4>& sizes, bool squared, int threads) {
  const auto [b, n, m, d] = sizes;
  return {{pointer<const float>(arrays[0]), pointer<const float>(arrays[1])},
          {pointer<const bool>(arrays[2]), pointer<const bool>(arrays[3])},
          pointer<const float>(arrays[4]),
          b,
          {n, m},
          d,
          squared,
          threads};
}

// nearest: (distances of either side, indices of either side)
skelkern::ChamferNearest chamfer_nearest(const std::array<std::uintptr_t, 4>& nearest) {
  return {{pointer<float>(nearest[0]), pointer<float>(nearest[1])},
          {pointer<std::int32_t>(nearest[2]), pointer<std::int32_t>(nearest[3])}};
}

void chamfer_forward(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 4>& sizes,
                     bool squared, int threads, const std::array<std::uintptr_t, 4>& nearest) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(chamfer).forward(chamfer_problem(arrays, sizes, squared, threads), chamfer_nearest(nearest)));
}

void chamfer_backward(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 4>& sizes,
                      bool squared, int threads, const std::array<std::uintptr_t, 4>& nearest,
                      const std::array<std::uintptr_t, 2>& distance_gradients,
                      const std::array<std::uintptr_t, 2>& gradients) {
  const float* const incoming[2] = {pointer<const float>(distance_gradients[0]),
                                    pointer<const float>(distance_gradients[1])};
  float* const outgoing[2] = {pointer<float>(gradients[0]), pointer<float>(gradients[1])};
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(chamfer).backward(chamfer_problem(arrays, sizes, squared, threads), chamfer_nearest(nearest),
                                          incoming, outgoing));
}

// sizes: (q, n, d, k)
void cosine_topk(std::uintptr_t queries, std::uintptr_t database, const std::array<std::int64_t, 4>& sizes, int threads,
                 std::uintptr_t similarities, std::uintptr_t indices) {
  const auto [q, n, d, k] = sizes;
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(cosine_topk)
              .run({pointer<const float>(queries), pointer<const float>(database), q, n, d, k, threads},
                   pointer<float>(similarities), pointer<std::int64_t>(indices)));
}

// arrays: (x, neighbors, weight, gamma, mask); sizes: (b, n, k, c, c_out)
skelkern::EdgeConvProblem edge_conv_problem(const std::array<std::uintptr_t, 5>& arrays,
                                            const std::array<std::int64_t, 5>& sizes, int threads) {
  const auto [b, n, k, c, c_out] = sizes;
  return {pointer<const float>(arrays[0]),
          pointer<const std::int64_t>(arrays[1]),
          pointer<const float>(arrays[2]),
          pointer<const float>(arrays[3]),
          pointer<const bool>(arrays[4]),
          b,
          n,
          k,
          c,
          c_out,
          threads};
}

// tail: (mean, inverse_std, beta)
skelkern::EdgeConvTail edge_conv_tail(const std::array<std::uintptr_t, 3>& tail, float negative_slope) {
  return {pointer<const float>(tail[0]), pointer<const float>(tail[1]), pointer<const float>(tail[2]), negative_slope};
}

// edges: (extremes, slots, sums)
skelkern::EdgeConvEdges edge_conv_edges(const std::array<std::uintptr_t, 3>& edges) {
  return {pointer<float>(edges[0]), pointer<std::uint8_t>(edges[1]), pointer<float>(edges[2])};
}

// Returns the number of edges, or -1 when a neighbour is out of range.
std::int64_t edge_conv_gather(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 5>& sizes,
                              int threads, const std::array<std::uintptr_t, 3>& edges, std::uintptr_t moments) {
  std::int64_t count = 0;
  pybind11::gil_scoped_release release;
  const auto problem = edge_conv_problem(arrays, sizes, threads);
  const auto result =
      SKELKERN_PICK(edge_conv).gather(problem, edge_conv_edges(edges), pointer<double>(moments), &count);
  require(result != skelkern::EdgeConvResult::out_of_memory);
  return result == skelkern::EdgeConvResult::done ? count : -1;
}

void edge_conv_finish(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 5>& sizes,
                      int threads, const std::array<std::uintptr_t, 3>& tail, float negative_slope,
                      std::uintptr_t extremes, std::uintptr_t y) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(edge_conv).finish(edge_conv_problem(arrays, sizes, threads),
                                          edge_conv_tail(tail, negative_slope), pointer<const float>(extremes),
                                          pointer<float>(y)));
}

void edge_conv_reduce(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 5>& sizes,
                      int threads, const std::array<std::uintptr_t, 3>& tail, float negative_slope,
                      std::uintptr_t extremes, std::uintptr_t y_gradient, std::uintptr_t sums) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(edge_conv).reduce(edge_conv_problem(arrays, sizes, threads),
                                          edge_conv_tail(tail, negative_slope), pointer<const float>(extremes),
                                          pointer<const float>(y_gradient), pointer<double>(sums)));
}

void edge_conv_backward(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 5>& sizes,
                        int threads, const std::array<std::uintptr_t, 3>& tail, float negative_slope,
                        const std::array<std::uintptr_t, 3>& edges, std::uintptr_t y_gradient, std::uintptr_t means,
                        std::uintptr_t x_gradient, std::uintptr_t weight_gradient) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(edge_conv).backward(edge_conv_problem(arrays, sizes, threads),
                                            edge_conv_tail(tail, negative_slope), edge_conv_edges(edges),
                                            pointer<const float>(y_gradient), pointer<const float>(means),
                                            pointer<float>(x_gradient), pointer<float>(weight_gradient)));
}

// sizes: (n, d, p, k)
void info_nce(std::uintptr_t query, std::uintptr_t positives, std::uintptr_t queue,
              const std::array<std::int64_t, 4>& sizes, float temperature, bool mean_log, int threads,
              std::uintptr_t loss, std::uintptr_t query_gradient, std::uintptr_t positive_weights) {
  const auto [n, d, p, k] = sizes;
  const skelkern::InfoNceInputs inputs{pointer<const float>(query),
                                       pointer<const float>(positives),
                                       pointer<const float>(queue),
                                       n,
                                       d,
                                       p,
                                       k,
                                       temperature,
                                       mean_log,
                                       threads};
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(info_nce).run(
      inputs, {pointer<float>(loss), pointer<float>(query_gradient), pointer<float>(positive_weights)}));
}

// sizes: (b, n, d, k)
void knn(std::uintptr_t points, std::uintptr_t mask, const std::array<std::int64_t, 4>& sizes, int threads,
         std::uintptr_t neighbors) {
  const auto [b, n, d, k] = sizes;
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(knn).run({pointer<const float>(points), pointer<const bool>(mask), b, n, d, k, threads},
                                 pointer<std::int64_t>(neighbors)));
}

// arrays: (x, weight, bias); strides: of x (row, column) and weight (row, column); sizes: (rows, in, out)
skelkern::LinearProblem linear_problem(const std::array<std::uintptr_t, 3>& arrays,
                                       const std::array<std::int64_t, 4>& strides,
                                       const std::array<std::int64_t, 3>& sizes, bool relu, int threads) {
  const auto [rows, in, out] = sizes;
  return {{pointer<const float>(arrays[0]), strides[0], strides[1]},
          {pointer<const float>(arrays[1]), strides[2], strides[3]},
          pointer<const float>(arrays[2]),
          rows,
          in,
          out,
          relu,
          threads};
}

void linear_forward(const std::array<std::uintptr_t, 3>& arrays, const std::array<std::int64_t, 4>& strides,
                    const std::array<std::int64_t, 3>& sizes, bool relu, int threads, std::uintptr_t y) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(linear).forward(linear_problem(arrays, strides, sizes, relu, threads), pointer<float>(y)));
}

// gradients: of x, weight and bias
void linear_backward(const std::array<std::uintptr_t, 3>& arrays, const std::array<std::int64_t, 4>& strides,
                     const std::array<std::int64_t, 3>& sizes, bool relu, int threads, std::uintptr_t y,
                     std::uintptr_t y_gradient, std::uintptr_t masked, const std::array<std::uintptr_t, 3>& gradients) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(linear).backward(
      linear_problem(arrays, strides, sizes, relu, threads), pointer<const float>(y), pointer<const float>(y_gradient),
      pointer<float>(masked),
      {pointer<float>(gradients[0]), pointer<float>(gradients[1]), pointer<float>(gradients[2])}));
}

// arrays: (frames, offsets, index, times, linear, linear_joints, translation, joint_order, joint_keep)
// sizes: (total, persons, joints, channels, samples, views, length). Returns whether all values were in range.
bool sample_clips(const std::array<std::uintptr_t, 9>& arrays, bool frames_are_bfloat16,
                  const std::array<std::int64_t, 7>& sizes, int threads, std::uintptr_t clips) {
  const auto [total, persons, joints, channels, samples, views, length] = sizes;
  const skelkern::SampleClipsProblem problem{pointer<const void>(arrays[0]),
                                             frames_are_bfloat16,
                                             pointer<const std::int64_t>(arrays[1]),
                                             pointer<const std::int64_t>(arrays[2]),
                                             pointer<const float>(arrays[3]),
                                             pointer<const float>(arrays[4]),
                                             pointer<const bool>(arrays[5]),
                                             pointer<const float>(arrays[6]),
                                             pointer<const std::int64_t>(arrays[7]),
                                             pointer<const bool>(arrays[8]),
                                             total,
                                             persons,
                                             joints,
                                             channels,
                                             samples,
                                             views,
                                             length,
                                             threads};
  pybind11::gil_scoped_release release;
  const auto result = SKELKERN_PICK(sample_clips).run(problem, pointer<float>(clips));
  require(result != skelkern::SampleClipsResult::out_of_memory);
  return result == skelkern::SampleClipsResult::done;
}

void block_tail_statistics(std::uintptr_t x, const std::array<std::int64_t, 3>& sizes, int threads, std::uintptr_t mean,
                           std::uintptr_t variance) {
  const auto [n, c, length] = sizes;
  pybind11::gil_scoped_release release;
  require(
      SKELKERN_PICK(block_tail)
          .statistics(pointer<const float>(x), n, c, length, threads, pointer<float>(mean), pointer<float>(variance)));
}

// arrays: (x, mean, inverse_std, weight, bias, residual); sizes: (n, c, length)
skelkern::BlockTailProblem block_tail_problem(const std::array<std::uintptr_t, 6>& arrays,
                                              const std::array<std::int64_t, 3>& sizes, double dropout,
                                              std::uint64_t seed, bool relu, int threads) {
  const auto [n, c, length] = sizes;
  return {pointer<const float>(arrays[0]),
          pointer<const float>(arrays[1]),
          pointer<const float>(arrays[2]),
          pointer<const float>(arrays[3]),
          pointer<const float>(arrays[4]),
          pointer<const float>(arrays[5]),
          n,
          c,
          length,
          dropout,
          seed,
          relu,
          threads};
}

void block_tail_forward(const std::array<std::uintptr_t, 6>& arrays, const std::array<std::int64_t, 3>& sizes,
                        double dropout, std::uint64_t seed, bool relu, int threads, std::uintptr_t y) {
  pybind11::gil_scoped_release release;
  const auto problem = block_tail_problem(arrays, sizes, dropout, seed, relu, threads);
  require(SKELKERN_PICK(block_tail).forward(problem, pointer<float>(y)));
}

// gradients: of x, weight, bias and residual
void block_tail_backward(const std::array<std::uintptr_t, 6>& arrays, const std::array<std::int64_t, 3>& sizes,
                         double dropout, std::uint64_t seed, bool relu, int threads, bool through_statistics,
                         std::uintptr_t y, std::uintptr_t y_gradient, const std::array<std::uintptr_t, 4>& gradients) {
  pybind11::gil_scoped_release release;
  const auto problem = block_tail_problem(arrays, sizes, dropout, seed, relu, threads);
  require(SKELKERN_PICK(block_tail)
              .backward(problem, through_statistics, pointer<const float>(y), pointer<const float>(y_gradient),
                        {pointer<float>(gradients[0]), pointer<float>(gradients[1]), pointer<float>(gradients[2]),
                         pointer<float>(gradients[3])}));
}

// arrays: (x, mean, scale, shift, weight, bias); sizes: (n, c, t, v, c_out, kernel, stride, padding, dilation)
skelkern::TemporalConvProblem temporal_conv_problem(const std::array<std::uintptr_t, 6>& arrays,
                                                    const std::array<std::int64_t, 9>& sizes, int threads) {
  const auto [n, c, t, v, c_out, kernel, stride, padding, dilation] = sizes;
  return {pointer<const float>(arrays[0]),
          pointer<const float>(arrays[1]),
          pointer<const float>(arrays[2]),
          pointer<const float>(arrays[3]),
          pointer<const float>(arrays[4]),
          pointer<const float>(arrays[5]),
          n,
          c,
          t,
          v,
          c_out,
          kernel,
          stride,
          padding,
          dilation,
          threads};
}

void temporal_conv_forward(const std::array<std::uintptr_t, 6>& arrays, const std::array<std::int64_t, 9>& sizes,
                           int threads, std::uintptr_t y, std::uintptr_t mean, std::uintptr_t variance) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(temporal_conv)
              .forward(temporal_conv_problem(arrays, sizes, threads), pointer<float>(y),
                       {pointer<float>(mean), pointer<float>(variance)}));
}

// gradients: of x, weight and bias
void temporal_conv_backward(const std::array<std::uintptr_t, 6>& arrays, const std::array<std::int64_t, 9>& sizes,
                            int threads, std::uintptr_t y_gradient, const std::array<std::uintptr_t, 3>& gradients) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(temporal_conv)
              .backward(temporal_conv_problem(arrays, sizes, threads), pointer<const float>(y_gradient),
                        {pointer<float>(gradients[0]), pointer<float>(gradients[1]), pointer<float>(gradients[2])}));
}

// An array of memory from malloc, which it frees when it dies.
template <class T>
pybind11::array_t<T> owning_array(T* data, const std::vector<std::int64_t>& shape) {
  return data == nullptr ? pybind11::array_t<T>(shape)
                         : pybind11::array_t<T>(shape, data, pybind11::capsule(data, [](void* p) { std::free(p); }));
}

// Results whose arrays are freed unless they have been handed over.
struct NtuResults : std::vector<skelkern::NtuResult> {
  using std::vector<skelkern::NtuResult>::vector;
  ~NtuResults() {
    for (skelkern::NtuResult& result : *this) skelkern::release(&result.recording);
  }
};

// ((frame_offsets, body_ids, body_info, joints) or None, line, expected, found, errno)
pybind11::tuple ntu_result(skelkern::NtuResult& result, bool coordinates_only) {
  require(result.status != skelkern::NtuStatus::out_of_memory);
  if (result.status != skelkern::NtuStatus::done)
    return pybind11::make_tuple(pybind11::none(), result.line, result.expected, pybind11::bytes(result.found),
                                result.error_number);
  skelkern::NtuRecording& own = result.recording;
  const std::int64_t values = coordinates_only ? 3 : skelkern::kNtuJointValues;
  auto offsets =
      own.frames == 0 ? pybind11::array_t<std::int64_t>(1) : owning_array(own.frame_offsets, {own.frames + 1});
  if (own.frames == 0) offsets.mutable_at(0) = 0;
  const auto arrays = pybind11::make_tuple(offsets, owning_array(own.body_ids, {own.bodies}),
                                           owning_array(own.body_info, {own.bodies, skelkern::kNtuBodyValues}),
                                           owning_array(own.joints, {own.bodies, skelkern::kNtuJoints, values}));
  own = {};
  return pybind11::make_tuple(arrays, 0, "", pybind11::bytes(""), 0);
}

pybind11::tuple parse_ntu_text(const pybind11::bytes& text, bool coordinates_only) {
  const std::string_view view = text;
  skelkern::NtuResult result{};
  {
    pybind11::gil_scoped_release release;
    SKELKERN_PICK(ntu_skeleton).parse(view.data(), static_cast<std::int64_t>(view.size()), coordinates_only, &result);
  }
  return ntu_result(result, coordinates_only);
}

pybind11::list parse_ntu_files(const std::vector<std::string>& paths, bool coordinates_only, int threads) {
  NtuResults results(paths.size());
  std::vector<const char*> names;
  for (const std::string& path : paths) names.push_back(path.c_str());
  {
    pybind11::gil_scoped_release release;
    SKELKERN_PICK(ntu_skeleton)
        .parse_files(names.data(), static_cast<std::int64_t>(names.size()), coordinates_only, threads, results.data());
  }
  pybind11::list list;
  for (skelkern::NtuResult& result : results) list.append(ntu_result(result, coordinates_only));
  return list;
}

// A float32 array of any content, whose memory is kept for later ones when it dies.
pybind11::array_t<float> kept_array(const std::vector<std::int64_t>& shape) {
  std::size_t bytes = sizeof(float);
  for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
  void* const data = skelkern::take_memory(bytes);
  require(data != nullptr);
  const pybind11::capsule owner(data, skelkern::give_back_memory);
  return pybind11::array_t<float>(shape, static_cast<const float*>(data), owner);
}

double multiply_add(std::int64_t iterations, int threads) {
  pybind11::gil_scoped_release release;
  return SKELKERN_PICK(peak).multiply_add(iterations, threads);
}

}  // namespace

PYBIND11_MODULE(_cpu, module) {
  module.def("level", [] { return skelkern::level_name(skelkern::cpu_level()); });
  module.def("compiler", [] { return __VERSION__; });
  module.def("vendor", skelkern::cpu_vendor);
  module.def("block_tail_statistics", block_tail_statistics);
  module.def("block_tail_forward", block_tail_forward);
  module.def("block_tail_backward", block_tail_backward);
  module.def("chamfer_forward", chamfer_forward);
  module.def("chamfer_backward", chamfer_backward);
  module.def("cosine_topk", cosine_topk);
  module.def("cross_correlation_forward", cross_correlation_forward);
  module.def("cross_correlation_backward", cross_correlation_backward);
  module.def("edge_conv_gather", edge_conv_gather);
  module.def("edge_conv_finish", edge_conv_finish);
  module.def("edge_conv_reduce", edge_conv_reduce);
  module.def("edge_conv_backward", edge_conv_backward);
  module.def("farthest_points", farthest_points);
  module.def("graph_conv_forward", graph_conv_forward);
  module.def("graph_conv_backward", graph_conv_backward);
  module.def("gru_forward", gru_forward);
  module.def("gru_backward", gru_backward);
  module.def("info_nce", info_nce);
  module.def("knn", knn);
  module.def("linear_forward", linear_forward);
  module.def("linear_backward", linear_backward);
  module.def("parse_ntu_text", parse_ntu_text);
  module.def("parse_ntu_files", parse_ntu_files);
  module.def("sample_clips", sample_clips);
  module.def("temporal_conv_forward", temporal_conv_forward);
  module.def("temporal_conv_backward", temporal_conv_backward);
  module.def("kept_array", kept_array);
  module.def("free_kept_memory", skelkern::free_kept_memory);
  module.def("reuse_memory", skelkern::reuse_memory);
  module.def("result_bytes", skelkern::result_bytes);
  module.def("scratch_bytes", skelkern::scratch_bytes);
  module.def("multiply_add", multiply_add);
}
