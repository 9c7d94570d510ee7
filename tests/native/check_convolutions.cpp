#include <array>

#include "block_tail/block_tail.h"
#include "graph_conv/graph_conv.h"
#include "linear/linear.h"
#include "native.h"
#include "temporal_conv/temporal_conv.h"

namespace {

void check_graph_conv(std::int64_t n, std::int64_t c, std::int64_t t, std::int64_t v, std::int64_t c_out,
                      bool per_sample) {
  const std::int64_t k = 3;
  auto x = random_floats(n * c * t * v), weight = random_floats(k * c_out * c), bias = random_floats(k * c_out);
  auto adjacency = random_floats((per_sample ? n : 1) * k * v * v), y_gradient = random_floats(n * c_out * t * v);
  for (std::int64_t i = 0; i < adjacency.size(); ++i)
    if (random_below(3) != 0) adjacency[i] = 0;
  const skelkern::GraphConvProblem problem{x.get(), weight.get(), bias.get(), adjacency.get(), n, c, t, v,
                                           k,       c_out,        per_sample, kThreads};
  at_every_level<skelkern::GraphConv>("graph_conv", LEVELS_OF(graph_conv), [&](const auto& table, Results& results) {
    Array<float> y(n * c_out * t * v), of_x(x.size()), of_weight(weight.size()), of_bias(bias.size()),
        of_adjacency(adjacency.size());
    require(table.forward(problem, y.get()), "memory");
    require(table.backward(problem, y_gradient.get(), {of_x.get(), of_weight.get(), of_bias.get(), of_adjacency.get()}),
            "memory");
    results.add(y), results.add(of_x), results.add(of_weight), results.add(of_bias), results.add(of_adjacency);
  });
}

void check_block_tail(std::int64_t n, std::int64_t c, std::int64_t length, double dropout) {
  auto x = random_floats(n * c * length), residual = random_floats(n * c * length);
  auto weight = random_floats(c), bias = random_floats(c), y_gradient = random_floats(n * c * length);
  at_every_level<skelkern::BlockTail>("block_tail", LEVELS_OF(block_tail), [&](const auto& table, Results& results) {
    Array<float> mean(c), variance(c), y(x.size()), of_x(x.size()), of_weight(c), of_bias(c), of_residual(x.size());
    require(table.statistics(x.get(), n, c, length, kThreads, mean.get(), variance.get()), "memory");
    Array<float> inverse_std(c);
    for (std::int64_t i = 0; i < c; ++i) inverse_std[i] = 1.0f / std::sqrt(variance[i] + 0.1f);
    const skelkern::BlockTailProblem problem{
        x.get(), mean.get(), inverse_std.get(), weight.get(), bias.get(), residual.get(), n, c, length, dropout,
        7,       true,       kThreads};
    require(table.forward(problem, y.get()), "memory");
    require(table.backward(problem, true, y.get(), y_gradient.get(),
                           {of_x.get(), of_weight.get(), of_bias.get(), of_residual.get()}),
            "memory");
    results.add(mean), results.add(y), results.add(of_weight), results.add(of_bias);
  });
}

// Weight and x are read transposed where `transposed` says so.
void check_linear(std::int64_t rows, std::int64_t in, std::int64_t out, bool transposed) {
  auto x = random_floats(rows * in), weight = random_floats(out * in), bias = random_floats(out);
  auto y_gradient = random_floats(rows * out);
  const skelkern::Matrix x_matrix{x.get(), transposed ? 1 : in, transposed ? rows : 1};
  const skelkern::Matrix weight_matrix{weight.get(), transposed ? 1 : in, transposed ? out : 1};
  const skelkern::LinearProblem problem{x_matrix, weight_matrix, bias.get(), rows, in, out, true, kThreads};
  at_every_level<skelkern::Linear>("linear", LEVELS_OF(linear), [&](const auto& table, Results& results) {
    Array<float> y(rows * out), masked(rows * out), of_x(x.size()), of_weight(weight.size()), of_bias(out);
    require(table.forward(problem, y.get()), "memory");
    require(
        table.backward(problem, y.get(), y_gradient.get(), masked.get(), {of_x.get(), of_weight.get(), of_bias.get()}),
        "memory");
    results.add(y), results.add(of_x), results.add(of_weight), results.add(of_bias);
  });
}

// steps: stride, padding and dilation
void check_temporal_conv(std::int64_t c, std::int64_t t, std::int64_t v, std::int64_t c_out, std::int64_t kernel,
                         const std::array<std::int64_t, 3>& steps, bool normalised) {
  const std::int64_t n = 2;
  auto x = random_floats(n * c * t * v), mean = random_floats(c), scale = random_floats(c), shift = random_floats(c);
  auto weight = random_floats(c_out * c * kernel), bias = random_floats(c_out);
  skelkern::TemporalConvProblem problem{x.get(), nullptr, nullptr, nullptr,  weight.get(), bias.get(), n,       c, t,
                                        v,       c_out,   kernel,  steps[0], steps[1],     steps[2],   kThreads};
  if (normalised) problem.mean = mean.get(), problem.scale = scale.get(), problem.shift = shift.get();
  const std::int64_t results = n * c_out * problem.t_out() * v;
  auto y_gradient = random_floats(results);
  at_every_level<skelkern::TemporalConv>(
      "temporal_conv", LEVELS_OF(temporal_conv), [&](const auto& table, Results& found) {
        Array<float> y(results), y_mean(c_out), y_variance(c_out), of_x(x.size()), of_weight(weight.size()),
            of_bias(c_out);
        require(table.forward(problem, y.get(), {y_mean.get(), y_variance.get()}), "memory");
        require(table.backward(problem, y_gradient.get(), {of_x.get(), of_weight.get(), of_bias.get()}), "memory");
        found.add(y), found.add(y_mean), found.add(y_variance);
        found.add(of_x), found.add(of_weight), found.add(of_bias);
      });
}

}  // namespace

void check_convolutions() {
  check_temporal_conv(1, 1, 1, 1, 1, {1, 0, 1}, false);
  check_temporal_conv(3, 23, 25, 17, 9, {1, 4, 1}, true);
  check_temporal_conv(5, 20, 7, 5, 3, {3, 2, 2}, false);
  check_temporal_conv(33, 190, 25, 4, 3, {2, 7, 4}, true);
  check_temporal_conv(16, 29, 5, 18, 9, {1, 4, 1}, true);
  check_temporal_conv(33, 190, 25, 16, 7, {1, 8, 1}, false);
  check_linear(1, 1, 1, false);
  check_linear(37, 300, 53, false);
  check_linear(2100, 17, 5, true);
  check_graph_conv(1, 1, 1, 1, 1, false);
  check_graph_conv(2, 5, 7, 25, 18, false);
  check_graph_conv(3, 17, 11, 13, 7, true);
  check_block_tail(1, 1, 3, 0.0);
  check_block_tail(3, 5, 77, 0.4);
}
