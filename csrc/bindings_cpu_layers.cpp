// Python bindings of the layers, the ops with parameters.
#include "bindings_cpu.h"
#include "block_tail/block_tail.h"
#include "graph_conv/graph_conv.h"
#include "gru/gru.h"
#include "linear/linear.h"
#include "temporal_conv/temporal_conv.h"
#include "unified_downsampling/unified_downsampling.h"

namespace {

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

// arrays: (x, weight, bias, gamma, beta); sizes: (n, t, c, kernel, stride, padding, pool)
skelkern::UnifiedDownsamplingProblem unified_downsampling_problem(const std::array<std::uintptr_t, 5>& arrays,
                                                                  const std::array<std::int64_t, 7>& sizes, float eps,
                                                                  int threads) {
  const auto [n, t, c, kernel, stride, padding, pool] = sizes;
  return {pointer<const float>(arrays[0]),
          pointer<const float>(arrays[1]),
          pointer<const float>(arrays[2]),
          pointer<const float>(arrays[3]),
          pointer<const float>(arrays[4]),
          n,
          t,
          c,
          kernel,
          stride,
          padding,
          pool,
          eps,
          threads};
}

void unified_downsampling_forward(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 7>& sizes,
                                  float eps, int threads, std::uintptr_t y) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(unified_downsampling)
              .forward(unified_downsampling_problem(arrays, sizes, eps, threads), pointer<float>(y)));
}

// gradients: of x, weight, bias, gamma and beta
void unified_downsampling_backward(const std::array<std::uintptr_t, 5>& arrays,
                                   const std::array<std::int64_t, 7>& sizes, float eps, int threads,
                                   std::uintptr_t y_gradient, const std::array<std::uintptr_t, 5>& gradients) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(unified_downsampling)
              .backward(unified_downsampling_problem(arrays, sizes, eps, threads), pointer<const float>(y_gradient),
                        {pointer<float>(gradients[0]), pointer<float>(gradients[1]), pointer<float>(gradients[2]),
                         pointer<float>(gradients[3]), pointer<float>(gradients[4])}));
}

}  // namespace

void bind_layers(pybind11::module_& module) {
  module.def("block_tail_statistics", block_tail_statistics);
  module.def("block_tail_forward", block_tail_forward);
  module.def("block_tail_backward", block_tail_backward);
  module.def("edge_conv_gather", edge_conv_gather);
  module.def("edge_conv_finish", edge_conv_finish);
  module.def("edge_conv_reduce", edge_conv_reduce);
  module.def("edge_conv_backward", edge_conv_backward);
  module.def("graph_conv_forward", graph_conv_forward);
  module.def("graph_conv_backward", graph_conv_backward);
  module.def("gru_forward", gru_forward);
  module.def("gru_backward", gru_backward);
  module.def("linear_forward", linear_forward);
  module.def("linear_backward", linear_backward);
  module.def("temporal_conv_forward", temporal_conv_forward);
  module.def("temporal_conv_backward", temporal_conv_backward);
  module.def("unified_downsampling_forward", unified_downsampling_forward);
  module.def("unified_downsampling_backward", unified_downsampling_backward);
}
