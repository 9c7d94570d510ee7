#include "cross_correlation/cross_correlation.h"
#include "info_nce/info_nce.h"
#include "native.h"

namespace {

void check_cross_correlation(std::int64_t n, std::int64_t d) {
  auto z1 = random_floats(n * d), z2 = random_floats(n * d);
  const skelkern::CrossCorrelationInputs inputs{{z1.get(), z2.get()}, n, d, 0.01f, 1e-2f, kThreads};
  at_every_level<skelkern::CrossCorrelation>(
      "cross_correlation", LEVELS_OF(cross_correlation), [&](const auto& table, Results& results) {
        Array<float> statistics(5 * d), products(n < d ? 2 * n * n : d * d), of_z1(n * d), of_z2(n * d);
        float* const gradients[2] = {of_z1.get(), of_z2.get()};
        double loss = 0;
        require(table.forward(inputs, {statistics.get(), products.get()}, &loss), "memory");
        require(table.backward(inputs, {statistics.get(), products.get()}, 1.0f, gradients), "memory");
        results.add(of_z1), results.add(of_z2);
      });
}

void check_info_nce(std::int64_t n, std::int64_t d, std::int64_t p, std::int64_t k, bool mean_log) {
  auto query = random_floats(n * d), positives = random_floats(n * p * d), queue = random_floats(k * d);
  const skelkern::InfoNceInputs inputs{query.get(), positives.get(), queue.get(), n, d, p, k, 0.5f, mean_log, kThreads};
  at_every_level<skelkern::InfoNce>("info_nce", LEVELS_OF(info_nce), [&](const auto& table, Results& results) {
    Array<float> loss(n), gradient(n * d), weights(n * p);
    require(table.run(inputs, {loss.get(), nullptr, weights.get()}), "memory");
    require(table.run(inputs, {loss.get(), gradient.get(), weights.get()}), "memory");
    results.add(loss), results.add(gradient), results.add(weights);
  });
}

}  // namespace

void check_losses() {
  for (auto [n, d] : {std::pair<std::int64_t, std::int64_t>{2, 1}, {7, 130}, {70, 33}, {33, 600}})
    check_cross_correlation(n, d);
  check_info_nce(1, 1, 1, 0, false);
  check_info_nce(5, 17, 3, 700, true);
  check_info_nce(150, 33, 1, 1100, false);
}
