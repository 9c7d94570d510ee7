#include "chamfer/chamfer.h"
#include "edge_conv/edge_conv.h"
#include "emulated.h"
#include "farthest_points/farthest_points.h"
#include "knn/knn.h"
#include "native.h"

namespace {

void check_knn(std::int64_t b, std::int64_t n, std::int64_t d, std::int64_t k) {
  auto points = random_floats(b * n * d);
  auto mask = random_mask(b * n);
  for (const bool* const valid : {static_cast<const bool*>(nullptr), static_cast<const bool*>(mask.get())})
    at_every_level<skelkern::Knn>(
        "knn", and_emulated(LEVELS_OF(knn), emulated_knn), [&](const auto& table, Results& results) {
          Array<std::int64_t> neighbors(b * n * k);
          require(table.run({points.get(), valid, b, n, d, k, kThreads}, neighbors.get()), "memory");
          for (std::int64_t i = 0; i < neighbors.size(); ++i)
            require(neighbors[i] >= 0 && neighbors[i] < n, "knn: an index is out of range");
          results.add(neighbors);
        });
}

// Forward and, as statistics of the edges or as given ones pass gradients on, backward.
void run_edge_conv(const skelkern::EdgeConv& table, const skelkern::EdgeConvProblem& problem, const float* beta,
                   const float* y_gradient, Results& results) {
  const std::int64_t c_out = problem.c_out, size = problem.b * problem.n * c_out;
  Array<float> extremes(size), sums(size), y(size), inverse_std(c_out), mean(c_out);
  Array<std::uint8_t> slots(size);
  Array<double> moments(2 * c_out), of_tail(2 * c_out);
  Array<float> means(2 * c_out), none(2 * c_out), of_x(problem.b * problem.n * problem.c);
  Array<float> of_weight(c_out * 2 * problem.c);
  std::int64_t count = 0;
  const skelkern::EdgeConvEdges edges{extremes.get(), slots.get(), sums.get()};
  require(table.gather(problem, edges, moments.get(), &count) == skelkern::EdgeConvResult::done, "memory");
  for (std::int64_t i = 0; i < c_out; ++i) {
    mean[i] = static_cast<float>(moments[i]);
    inverse_std[i] = 1.0f / std::sqrt(static_cast<float>(moments[c_out + i] / static_cast<double>(count)) + 0.1f);
  }
  const skelkern::EdgeConvTail tail{mean.get(), inverse_std.get(), beta, 0.2f};
  require(table.finish(problem, tail, extremes.get(), y.get()), "memory");
  require(table.reduce(problem, tail, extremes.get(), y_gradient, of_tail.get()), "memory");
  results.add(y), results.add(slots), results.add(of_tail);
  for (std::int64_t i = 0; i < 2 * c_out; ++i) means[i] = static_cast<float>(of_tail[i] / static_cast<double>(count));
  for (Array<float>* const passing : {&means, &none}) {
    require(table.backward(problem, tail, edges, y_gradient, passing->get(), of_x.get(), of_weight.get()), "memory");
    results.add(of_x), results.add(of_weight);
  }
  require(table.backward(problem, tail, edges, y_gradient, means.get(), nullptr, of_weight.get()), "memory");
  results.add(of_weight);
}

void check_edge_conv(std::int64_t b, std::int64_t n, std::int64_t k, std::int64_t c, std::int64_t c_out, bool masked) {
  auto x = random_floats(b * n * c), weight = random_floats(c_out * 2 * c), gamma = random_floats(c_out);
  auto neighbors = random_indices(b * n * k, n);
  auto mask = random_mask(b * n);
  auto beta = random_floats(c_out), y_gradient = random_floats(b * n * c_out);
  const skelkern::EdgeConvProblem problem{
      x.get(), neighbors.get(), weight.get(), gamma.get(), masked ? mask.get() : nullptr, b, n, k, c, c_out, kThreads};
  at_every_level<skelkern::EdgeConv>("edge_conv", and_emulated(LEVELS_OF(edge_conv), emulated_edge_conv),
                                     [&](const auto& table, Results& results) {
                                       run_edge_conv(table, problem, beta.get(), y_gradient.get(), results);
                                     });
  if (masked) {  // to the GPU an index out of range is one of a point outside the mask
    Results expected, found;
    run_edge_conv(emulated_edge_conv, problem, beta.get(), y_gradient.get(), expected);
    for (std::int64_t edge = 0; edge < b * n * k; ++edge)
      if (!mask[edge / (n * k) * n + neighbors[edge]]) neighbors[edge] = edge % 2 == 0 ? -1 - edge : n + edge;
    run_edge_conv(emulated_edge_conv, problem, beta.get(), y_gradient.get(), found);
    found.require_like(expected, "edge_conv: indices out of range");
  }
  neighbors[0] = n;
  Array<float> extremes(b * n * c_out);
  Array<double> moments(2 * c_out);
  std::int64_t count = 0;
  require(LEVELS_OF(edge_conv)[0]->gather(problem, {extremes.get(), nullptr, nullptr}, moments.get(), &count) ==
              skelkern::EdgeConvResult::index_out_of_range,
          "edge_conv: an index out of range is noticed");
}

void check_chamfer(std::int64_t b, std::int64_t n, std::int64_t m, std::int64_t d, bool masked) {
  auto x = random_floats(b * n * d), y = random_floats(b * m * d), weights = random_floats(d);
  auto x_mask = random_mask(b * n), y_mask = random_mask(b * m);
  for (std::int64_t i = 0; i < d; ++i) weights[i] = std::fabs(weights[i]);
  const skelkern::ChamferProblem problem{{x.get(), y.get()},
                                         {masked ? x_mask.get() : nullptr, masked ? y_mask.get() : nullptr},
                                         masked ? weights.get() : nullptr,
                                         b,
                                         {n, m},
                                         d,
                                         !masked,
                                         kThreads};
  at_every_level<skelkern::Chamfer>(
      "chamfer", and_emulated(LEVELS_OF(chamfer), emulated_chamfer), [&](const auto& table, Results& results) {
        Array<float> to_y(b * n), to_x(b * m), of_x(x.size()), of_y(y.size());
        Array<std::int32_t> from_x(b * n), from_y(b * m);
        const skelkern::ChamferNearest nearest{{to_y.get(), to_x.get()}, {from_x.get(), from_y.get()}};
        const float* const incoming[2] = {to_y.get(), to_x.get()};
        float* const outgoing[2] = {of_x.get(), of_y.get()};
        require(table.forward(problem, nearest), "memory");
        require(table.backward(problem, nearest, incoming, outgoing), "memory");
        results.add(to_y), results.add(to_x), results.add(of_x), results.add(of_y);
      });
}

void check_farthest_points(std::int64_t b, std::int64_t n, std::int64_t d, std::int64_t m) {
  auto points = random_floats(b * n * d);
  auto mask = random_mask(b * n);
  at_every_level<skelkern::FarthestPoints>(
      "farthest_points", and_emulated(LEVELS_OF(farthest_points), emulated_farthest_points),
      [&](const auto& table, Results& results) {
        Array<std::int64_t> picks(b * m);
        require(table.run({points.get(), mask.get(), b, n, d, m, n - 1, kThreads}, picks.get()), "memory");
        results.add(picks);
      });
}

}  // namespace

void check_clouds() {
  check_knn(1, 1, 1, 1);
  check_knn(1, 100, 3, 20);
  check_knn(1, 100, 11, 20);
  check_knn(3, 77, 16, 77);
  check_knn(3, 200, 5, 50);
  check_knn(2, 131, 8, 9);
  check_knn(7, 25, 3, 20);
  check_knn(1, 70, 131, 33);
  check_edge_conv(1, 2, 1, 1, 1, false);
  check_edge_conv(2, 19, 5, 17, 33, true);
  check_edge_conv(9, 40, 7, 16, 70, false);
  check_edge_conv(1, 131, 11, 3, 64, true);
  check_chamfer(1, 1, 1, 1, false);
  check_chamfer(1, 70, 150, 3, true);
  check_chamfer(9, 33, 17, 6, false);
  check_chamfer(1, 131, 40, 11, true);
  check_chamfer(2, 70, 65, 131, true);
  check_farthest_points(3, 45, 3, 45);
  check_farthest_points(1, 1, 17, 1);
  check_farthest_points(2, 25, 2, 9);
  check_farthest_points(1, 97, 3, 20);
  check_farthest_points(1, 523, 3, 30);
  check_farthest_points(2, 301, 5, 12);
}
