#include <array>

#include "gru/gru.h"
#include "native.h"
#include "unified_downsampling/unified_downsampling.h"

namespace {

// Sizes that make a test: sequences, frames, channels, hidden units, directions.
using Sizes = std::array<std::int64_t, 5>;

// Where each frame's rows begin; the last frame belongs to one sequence only.
Array<std::int64_t> random_starts(std::int64_t n, std::int64_t steps) {
  Array<std::int64_t> starts(steps + 1);
  std::int64_t left = n;
  for (std::int64_t frame = 0; frame < steps; ++frame) {
    starts[frame + 1] = starts[frame] + left;
    left = frame + 2 == steps ? 1 : 1 + random_below(left);
  }
  return starts;
}

void check_gru(const Sizes& sizes, bool lstm, bool packed, bool batch_first) {
  const auto [n, steps, in, hidden, directions] = sizes;
  auto starts = random_starts(n, steps);
  const std::int64_t frames = packed ? starts[steps] : n * steps, gates = (lstm ? 4 : 3) * hidden;
  const std::int64_t states = directions * n * hidden;
  auto x = random_floats(frames * in), h0 = random_floats(states), c0 = random_floats(states);
  auto input = random_floats(2 * gates * in, 64), recurrent = random_floats(2 * gates * hidden, 64);
  auto biases = random_floats(4 * gates), of_y = random_floats(frames * directions * hidden);
  auto of_h = random_floats(states), of_c = random_floats(states);
  skelkern::GruProblem problem{x.get(),     packed ? starts.get() : nullptr,
                               h0.get(),    lstm ? c0.get() : nullptr,
                               {},          n,
                               steps,       in,
                               hidden,      directions,
                               batch_first, true,
                               kThreads};
  for (std::int64_t i = 0; i < 2; ++i)
    problem.weights[i] = {input.get() + i * gates * in, recurrent.get() + i * gates * hidden,
                          biases.get() + 2 * i * gates, biases.get() + (2 * i + 1) * gates};
  at_every_level<skelkern::Gru>("gru", LEVELS_OF(gru), [&](const auto& table, Results& results) {
    Array<float> y(of_y.size()), h(states), c(lstm ? states : 0);
    Array<float> trace(directions * frames * (lstm ? skelkern::kLstmTrace : skelkern::kGruTrace) * hidden);
    Array<float> slopes(directions * frames * skelkern::kGruSlopes * hidden);
    Array<float> of_x(x.size()), of_h0(states), of_c0(c.size());
    Array<float> of_input(2 * gates * in), of_recurrent(2 * gates * hidden), of_biases(4 * gates);
    const skelkern::GruResults found{y.get(), h.get(), c.get(), trace.get()};
    skelkern::GruGradients gradients{of_x.get(), of_h0.get(), lstm ? of_c0.get() : nullptr, {}};
    for (std::int64_t i = 0; i < directions; ++i)
      gradients.weights[i] = {of_input.get() + i * gates * in, of_recurrent.get() + i * gates * hidden,
                              of_biases.get() + 2 * i * gates, of_biases.get() + (2 * i + 1) * gates};
    require(table.forward(problem, found), "memory");
    require(
        table.backward(problem, found, {of_y.get(), of_h.get(), lstm ? of_c.get() : nullptr}, slopes.get(), gradients),
        "memory");
    results.add(y), results.add(h), results.add(c), results.add(of_x), results.add(of_h0), results.add(of_c0);
    results.add(of_input), results.add(of_recurrent), results.add(of_biases);
  });
}

void check_unified_downsampling(std::int64_t n, std::int64_t t, std::int64_t c, std::int64_t kernel,
                                std::int64_t stride, std::int64_t padding, std::int64_t pool) {
  auto x = random_floats(n * t * c), weight = random_floats(c * kernel), bias = random_floats(c);
  auto gamma = random_floats(c), beta = random_floats(c);
  const skelkern::UnifiedDownsamplingProblem problem{
      x.get(), weight.get(), bias.get(), gamma.get(), beta.get(), n,    t,
      c,       kernel,       stride,     padding,     pool,       0.1f, kThreads};
  const std::int64_t size = n * problem.results() * c;
  auto of_y = random_floats(size);
  at_every_level<skelkern::UnifiedDownsampling>(
      "unified_downsampling", LEVELS_OF(unified_downsampling), [&](const auto& table, Results& results) {
        Array<float> y(size), of_x(x.size()), of_weight(weight.size()), of_bias(c), of_gamma(c), of_beta(c);
        require(table.forward(problem, y.get()), "memory");
        require(table.backward(problem, of_y.get(),
                               {of_x.get(), of_weight.get(), of_bias.get(), of_gamma.get(), of_beta.get()}),
                "memory");
        results.add(y), results.add(of_x), results.add(of_weight), results.add(of_bias);
        results.add(of_gamma), results.add(of_beta);
      });
}

}  // namespace

void check_sequences() {
  check_unified_downsampling(1, 1, 1, 1, 1, 0, 1);
  check_unified_downsampling(70, 9, 37, 5, 1, 2, 2);
  check_unified_downsampling(2, 16, 16, 4, 3, 5, 3);
  for (const bool lstm : {false, true}) {
    check_gru({1, 1, 1, 1, 1}, lstm, false, false);
    check_gru({35, 3, 7, 21, 2}, lstm, false, true);
    check_gru({67, 5, 10, 50, 2}, lstm, true, false);
    check_gru({5, 4, 3, 16, 1}, lstm, true, false);
  }
}
