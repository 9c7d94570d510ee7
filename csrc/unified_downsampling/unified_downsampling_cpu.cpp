// One sequence at a time stays in cache, padded with zeros before and behind its frames and to whole vectors of
// channels: from there on no place is special.
#include <algorithm>
#include <cmath>

#include "common/parallel.h"
#include "common/simd.h"
#include "unified_downsampling/unified_downsampling.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

using Problem = UnifiedDownsamplingProblem;

struct Plan {
  std::int64_t ld;            // of rows of channels
  std::int64_t bias, gamma;   // rows of the parameters (kernel + 3, ld): taps, bias, gamma, beta
  std::int64_t rows;          // of them
  std::int64_t frames;        // of a padded sequence
  std::int64_t size, chunks;  // sequences of a chunk

  explicit Plan(const Problem& p)
      : ld(round_up(p.c, kLanes)),
        bias(p.kernel),
        gamma(p.kernel + 1),
        rows(p.kernel + 3),
        frames(p.t + 2 * p.padding) {
    constexpr std::int64_t kChunks = 64;  // whose gradients of the parameters are summed apart
    size = ceil_div(p.n, kChunks);
    chunks = ceil_div(p.n, size);
  }
  std::int64_t parameters() const { return rows * ld; }
};

// The parameters as rows of channels, (rows, ld); zeros behind the last channel.
void pack_parameters(const Problem& p, const Plan& plan, float* rows) {
  std::fill_n(rows, plan.parameters(), 0.0f);
  for (std::int64_t channel = 0; channel < p.c; ++channel)
    for (std::int64_t tap = 0; tap < p.kernel; ++tap)
      rows[tap * plan.ld + channel] = p.weight[channel * p.kernel + tap];
  if (p.bias != nullptr) std::copy_n(p.bias, p.c, rows + plan.bias * plan.ld);
  std::copy_n(p.gamma, p.c, rows + plan.gamma * plan.ld);
  std::copy_n(p.beta, p.c, rows + (plan.gamma + 1) * plan.ld);
}

// A sequence between its zeros: (frames, ld).
void pad(const Problem& p, const Plan& plan, std::int64_t sequence, float* padded) {
  const float* const x = p.x + sequence * p.t * p.c;
  std::fill_n(padded, p.padding * plan.ld, 0.0f);
  std::fill_n(padded + (plan.frames - p.padding) * plan.ld, p.padding * plan.ld, 0.0f);
  for (std::int64_t frame = 0; frame < p.t; ++frame) {
    float* const row = padded + (p.padding + frame) * plan.ld;
    std::copy_n(x + frame * p.c, p.c, row);
    std::fill_n(row + p.c, plan.ld - p.c, 0.0f);
  }
}

// A frame of the convolution, (ld), to mean 0 and variance 1; returns the inverse of its standard deviation. x: the
// first of its taps' frames.
float standardise_frame(const Problem& p, const Plan& plan, const float* parameters, const float* x, float* frame) {
  Vec sum{}, squares{};
  for (std::int64_t j = 0; j < plan.ld; j += kLanes) {
    Vec value = load(parameters + plan.bias * plan.ld + j);
    for (std::int64_t tap = 0; tap < p.kernel; ++tap)
      value += load(x + tap * plan.ld + j) * load(parameters + tap * plan.ld + j);
    store(frame + j, value);
    sum += value;
  }
  const float count = static_cast<float>(p.c), mean = sum_lanes(sum) / count;
  for (std::int64_t j = 0; j < plan.ld; j += kLanes) {
    const Vec centred = first_lanes(load(frame + j) - mean, p.c - j);
    store(frame + j, centred);
    squares += centred * centred;
  }
  const float inverse = 1.0f / std::sqrt(sum_lanes(squares) / count + p.eps);
  for (std::int64_t j = 0; j < plan.ld; j += kLanes) store(frame + j, load(frame + j) * inverse);
  return inverse;
}

// The frames of one result, (pool, ld), and the inverses of their standard deviations (pool).
void standardise_window(const Problem& p, const Plan& plan, const float* parameters, const float* padded,
                        std::int64_t result, float* window, float* inverses) {
  for (std::int64_t i = 0; i < p.pool; ++i)
    inverses[i] = standardise_frame(p, plan, parameters, padded + (result * p.pool + i) * p.stride * plan.ld,
                                    window + i * plan.ld);
}

// Lanes j of the largest of the window's frames after gamma and beta, and which frame has it.
struct Largest {
  Vec value;
  IntVec frame;

  Largest(const Problem& p, const Plan& plan, const float* parameters, const float* window, std::int64_t j) {
    const Vec gamma = load(parameters + plan.gamma * plan.ld + j);
    const Vec beta = load(parameters + (plan.gamma + 1) * plan.ld + j);
    value = load(window + j) * gamma + beta;
    frame = IntVec{};
    for (std::int32_t i = 1; i < p.pool; ++i) {
      const Vec other = load(window + i * plan.ld + j) * gamma + beta;
      const IntVec better = (other > value) | (other != other);
      value = better ? other : value;
      frame = better ? IntVec{} + i : frame;
    }
  }
};

bool forward(const Problem& p, float* y) {
  const Plan plan(p);
  const std::int64_t results = p.results();
  float* const parameters = thread_scratch(Slot::workspace, static_cast<std::size_t>(plan.parameters()));
  if (parameters == nullptr) return false;
  pack_parameters(p, plan, parameters);
  const std::int64_t floats = (plan.frames + p.pool) * plan.ld + p.pool;
  return parallel_chunks(p.n, p.threads, static_cast<std::size_t>(floats), [&](std::int64_t sequence, float* padded) {
    float* const window = padded + plan.frames * plan.ld;
    pad(p, plan, sequence, padded);
    for (std::int64_t result = 0; result < results; ++result) {
      standardise_window(p, plan, parameters, padded, result, window, window + p.pool * plan.ld);
      float* const row = y + (sequence * results + result) * p.c;
      for (std::int64_t j = 0; j < p.c; j += kLanes) {
        const Vec value = Largest(p, plan, parameters, window, j).value;
        store_part(row + j, (Vec)((IntVec)value & ~(IntVec)(value < 0.0f)), lanes_left(p.c, j));
      }
    }
  });
}

// What a chunk of backward works with.
struct BackwardState {
  float* x;         // (frames, ld), a padded sequence
  float* gradient;  // (frames, ld), of it
  float* window;    // (pool, ld), standardised frames of a result
  float* slopes;    // (pool, ld), their gradients
  float* inverses;  // (pool)

  static std::size_t floats(const Problem& p, const Plan& plan) {
    return static_cast<std::size_t>(2 * (plan.frames + p.pool) * plan.ld + p.pool);
  }
  BackwardState(const Problem& p, const Plan& plan, float* scratch)
      : x(scratch),
        gradient(x + plan.frames * plan.ld),
        window(gradient + plan.frames * plan.ld),
        slopes(window + p.pool * plan.ld),
        inverses(slopes + p.pool * plan.ld) {}
};

// Gradients of a window's standardised frames from that of its result, y_gradient (c); adds those of gamma and beta to
// sums (rows, ld).
void differentiate_window(const Problem& p, const Plan& plan, const float* parameters, const float* y_gradient,
                          const BackwardState& s, float* sums) {
  for (std::int64_t j = 0; j < plan.ld; j += kLanes) {
    const Largest largest(p, plan, parameters, s.window, j);
    const Vec incoming = load_part(y_gradient + j, lanes_left(p.c, j));
    const Vec passed = (Vec)((IntVec)incoming & ~(IntVec)(largest.value <= 0.0f));
    const Vec gamma = load(parameters + plan.gamma * plan.ld + j);
    float* const of_gamma = sums + plan.gamma * plan.ld + j;
    float* const of_beta = of_gamma + plan.ld;
    store(of_beta, load(of_beta) + passed);
    for (std::int32_t i = 0; i < p.pool; ++i) {
      const Vec own = (Vec)((IntVec)passed & (largest.frame == i));
      store(of_gamma, load(of_gamma) + own * load(s.window + i * plan.ld + j));
      store(s.slopes + i * plan.ld + j, own * gamma);
    }
  }
}

// Through the standardisation and the convolution of one frame of a window: adds to the gradients of the padded
// sequence and of the taps and the bias in sums (rows, ld). at: the first of the taps' frames.
void differentiate_frame(const Problem& p, const Plan& plan, const float* parameters, std::int64_t frame,
                         std::int64_t at, const BackwardState& s, float* sums) {
  const float* const standard = s.window + frame * plan.ld;
  const float* const slopes = s.slopes + frame * plan.ld;
  Vec total{}, along{};
  for (std::int64_t j = 0; j < plan.ld; j += kLanes) {
    total += load(slopes + j);
    along += load(slopes + j) * load(standard + j);
  }
  const float count = static_cast<float>(p.c);
  const Vec mean = splat(sum_lanes(total) / count), slope = splat(sum_lanes(along) / count);
  for (std::int64_t j = 0; j < plan.ld; j += kLanes) {
    const Vec own = (load(slopes + j) - mean - load(standard + j) * slope) * s.inverses[frame];
    float* const of_bias = sums + plan.bias * plan.ld + j;
    store(of_bias, load(of_bias) + own);
    for (std::int64_t tap = 0; tap < p.kernel; ++tap) {
      const std::int64_t place = (at + tap) * plan.ld + j, weight = tap * plan.ld + j;
      store(sums + weight, load(sums + weight) + own * load(s.x + place));
      store(s.gradient + place, load(s.gradient + place) + own * load(parameters + weight));
    }
  }
}

// Adds the gradients of the parameters by one sequence to sums (rows, ld).
void differentiate_sequence(const Problem& p, const Plan& plan, const float* parameters, std::int64_t sequence,
                            const float* y_gradient, const BackwardState& s, float* x_gradient, float* sums) {
  const std::int64_t results = p.results();
  pad(p, plan, sequence, s.x);
  std::fill_n(s.gradient, plan.frames * plan.ld, 0.0f);
  for (std::int64_t result = 0; result < results; ++result) {
    standardise_window(p, plan, parameters, s.x, result, s.window, s.inverses);
    differentiate_window(p, plan, parameters, y_gradient + (sequence * results + result) * p.c, s, sums);
    for (std::int64_t i = 0; i < p.pool; ++i)
      differentiate_frame(p, plan, parameters, i, (result * p.pool + i) * p.stride, s, sums);
  }
  if (x_gradient == nullptr) return;
  for (std::int64_t frame = 0; frame < p.t; ++frame)
    std::copy_n(s.gradient + (p.padding + frame) * plan.ld, p.c, x_gradient + (sequence * p.t + frame) * p.c);
}

// Adds up partial sums (chunks, rows, ld) into the first of them and hands out what is wanted.
void merge_sums(const Problem& p, const Plan& plan, float* sums, const UnifiedDownsamplingGradients& gradients) {
  for (std::int64_t chunk = 1; chunk < plan.chunks; ++chunk)
    for (std::int64_t i = 0; i < plan.parameters(); ++i) sums[i] += sums[chunk * plan.parameters() + i];
  if (gradients.weight != nullptr)
    for (std::int64_t channel = 0; channel < p.c; ++channel)
      for (std::int64_t tap = 0; tap < p.kernel; ++tap)
        gradients.weight[channel * p.kernel + tap] = sums[tap * plan.ld + channel];
  float* const rows[] = {gradients.bias, gradients.gamma, gradients.beta};
  for (std::int64_t i = 0; i < 3; ++i)
    if (rows[i] != nullptr) std::copy_n(sums + (plan.bias + i) * plan.ld, p.c, rows[i]);
}

bool backward(const Problem& p, const float* y_gradient, const UnifiedDownsamplingGradients& gradients) {
  const Plan plan(p);
  float* const parameters =
      thread_scratch(Slot::workspace, static_cast<std::size_t>((1 + plan.chunks) * plan.parameters()));
  if (parameters == nullptr) return false;
  pack_parameters(p, plan, parameters);
  float* const partials = parameters + plan.parameters();
  const bool done =
      parallel_chunks(plan.chunks, p.threads, BackwardState::floats(p, plan), [&](std::int64_t chunk, float* scratch) {
        float* const sums = partials + chunk * plan.parameters();
        std::fill_n(sums, plan.parameters(), 0.0f);
        for (std::int64_t i = chunk * plan.size; i < std::min(p.n, (chunk + 1) * plan.size); ++i)
          differentiate_sequence(p, plan, parameters, i, y_gradient, BackwardState(p, plan, scratch), gradients.x,
                                 sums);
      });
  if (done) merge_sums(p, plan, partials, gradients);
  return done;
}

}  // namespace

extern const UnifiedDownsampling unified_downsampling;
const UnifiedDownsampling unified_downsampling{forward, backward};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
