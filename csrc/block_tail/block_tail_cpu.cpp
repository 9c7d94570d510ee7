// Every pass goes over rows, one channel of one sample each. Sums over a channel are taken in float32 within a row and
// in double across rows; a chunk of samples has its own, which are merged in order.
#include <algorithm>
#include <cmath>

#include "block_tail/block_tail.h"
#include "common/moments.h"
#include "common/parallel.h"
#include "common/philox.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kChunkFloats = 64 * 1024;

// Cuts (n, c, length) into chunks of whole samples.
struct Chunks {
  std::int64_t n, samples, count;

  Chunks(std::int64_t n, std::int64_t c, std::int64_t length)
      : n(n),
        samples(std::max<std::int64_t>(1, kChunkFloats / std::max<std::int64_t>(1, c * length))),
        count(ceil_div(n, samples)) {}

  std::int64_t first(std::int64_t chunk) const { return chunk * samples; }
  std::int64_t last(std::int64_t chunk) const { return std::min(n, first(chunk) + samples); }
};

// Two sums of every channel of every chunk: (count, c, 2), in the caller's workspace.
double* partial_sums(const Chunks& chunks, std::int64_t c) {
  const auto doubles = static_cast<std::size_t>(2 * chunks.count * c);
  return reinterpret_cast<double*>(thread_scratch(Slot::workspace, doubles * (sizeof(double) / sizeof(float))));
}

bool statistics(const float* x, std::int64_t n, std::int64_t c, std::int64_t length, int threads, float* mean,
                float* variance) {
  const Chunks chunks(n, c, length);
  double* const partial = partial_sums(chunks, c);
  if (partial == nullptr) return false;
  const auto of_row = static_cast<double>(length);
  const bool done = parallel_chunks(chunks.count, threads, 0, [&](std::int64_t chunk, float*) {
    for (std::int64_t channel = 0; channel < c; ++channel) {
      Moments moments;
      for (std::int64_t sample = chunks.first(chunk); sample < chunks.last(chunk); ++sample)
        moments.add_row(x + (sample * c + channel) * length, length);
      partial[2 * (chunk * c + channel)] = moments.mean;
      partial[2 * (chunk * c + channel) + 1] = moments.squares;
    }
  });
  if (!done) return false;
  for (std::int64_t channel = 0; channel < c; ++channel) {
    Moments moments;
    for (std::int64_t chunk = 0; chunk < chunks.count; ++chunk) {
      const double* sums = partial + 2 * (chunk * c + channel);
      moments.add(static_cast<double>(chunks.last(chunk) - chunks.first(chunk)) * of_row, sums[0], sums[1]);
    }
    mean[channel] = static_cast<float>(moments.mean);
    variance[channel] = static_cast<float>(moments.squares / moments.count);
  }
  return true;
}

// Factors of dropout for one row: 0 or 1 / (1 - p).
class Dropout {
 public:
  Dropout(const BlockTailProblem& p, std::int64_t row)
      : seed_(p.seed),
        block_(static_cast<std::uint64_t>(row * ceil_div(p.length, kPhiloxBlock))),
        threshold_(static_cast<std::uint32_t>(p.dropout * 4294967296.0)),
        factor_(splat(static_cast<float>(1.0 / (1.0 - p.dropout)))),
        active_(p.dropout > 0.0) {}

  // Draws for the elements [i, i + kPhiloxBlock) of the row; i is a multiple of kPhiloxBlock.
  SKELKERN_INLINE void draw(std::int64_t i) {
    if (active_) philox_block(seed_, block_ + static_cast<std::uint64_t>(i / kPhiloxBlock), words_);
  }

  // value times the factors of the elements [i, i + kLanes).
  SKELKERN_INLINE Vec apply(std::int64_t i, Vec value) const {
    if (!active_) return value;
    UnsignedVec words;
    std::memcpy(&words, words_ + i % kPhiloxBlock, sizeof words);
    return value * (Vec)((IntVec)factor_ & (IntVec)(words >= threshold_));
  }

 private:
  typedef std::uint32_t UnsignedVec __attribute__((vector_size(4 * SKELKERN_LANES)));

  std::uint32_t words_[kPhiloxBlock];
  std::uint64_t seed_, block_;
  std::uint32_t threshold_;
  Vec factor_;
  bool active_;
};

// Calls body(i, lanes) for every vector of a row, after the draws that it needs.
template <class Body>
SKELKERN_INLINE void for_vectors(std::int64_t length, Dropout& dropout, const Body& body) {
  for (std::int64_t block = 0; block < length; block += kPhiloxBlock) {
    dropout.draw(block);
    const std::int64_t end = std::min(length, block + kPhiloxBlock);
    for (std::int64_t i = block; i < end; i += kLanes) body(i, lanes_left(end, i));
  }
}

// What is constant in a row.
struct Channel {
  float mean, inverse_std, weight, bias;

  Channel(const BlockTailProblem& p, std::int64_t channel)
      : mean(p.mean[channel]),
        inverse_std(p.inverse_std[channel]),
        weight(p.weight ? p.weight[channel] : 1.0f),
        bias(p.bias ? p.bias[channel] : 0.0f) {}

  float scale() const { return inverse_std * weight; }
  SKELKERN_INLINE Vec normalise(Vec x) const { return (x - mean) * scale() + bias; }
};

void forward_row(const BlockTailProblem& p, std::int64_t row, float* y) {
  const Channel channel(p, row % p.c);
  const float *x = p.x + row * p.length, *residual = p.residual ? p.residual + row * p.length : nullptr;
  Dropout dropout(p, row);
  for_vectors(p.length, dropout, [&](std::int64_t i, int lanes) {
    Vec value = dropout.apply(i, channel.normalise(load_part(x + i, lanes)));
    if (residual != nullptr) value += load_part(residual + i, lanes);
    if (p.relu) value = (Vec)((IntVec)value & ~(IntVec)(value < 0.0f));
    store_part(y + row * p.length + i, value, lanes);
  });
}

bool forward(const BlockTailProblem& p, float* y) {
  const Chunks chunks(p.n, p.c, p.length);
  return parallel_chunks(chunks.count, p.threads, 0, [&](std::int64_t chunk, float*) {
    for (std::int64_t row = chunks.first(chunk) * p.c; row < chunks.last(chunk) * p.c; ++row) forward_row(p, row, y);
  });
}

// One row of y's gradient, made the one behind the ReLU and behind dropout. Without y (see `BlockTail::backward`) the
// sign of its values is found again.
struct GradientRow {
  Channel channel;
  const float *x, *y, *gradient;
  bool relu;

  GradientRow(const BlockTailProblem& p, std::int64_t row, const float* y, const float* y_gradient)
      : channel(p, row % p.c),
        x(p.x == nullptr ? nullptr : p.x + row * p.length),
        y(y == nullptr ? nullptr : y + row * p.length),
        gradient(y_gradient + row * p.length),
        relu(p.relu) {}

  SKELKERN_INLINE Vec behind_relu(std::int64_t i, int lanes) const {
    const Vec value = load_part(gradient + i, lanes);
    if (!relu) return value;
    const Vec sign = y != nullptr ? load_part(y + i, lanes) : channel.normalise(load_part(x + i, lanes));
    return (Vec)((IntVec)value & ~(IntVec)(sign <= 0.0f));
  }
};

// Sums over a row of the normalised value's gradient, alone and times (x - mean).
void add_row_sums(const BlockTailProblem& p, std::int64_t row, const GradientRow& incoming, double* sums) {
  Dropout dropout(p, row);
  Vec plain{}, times_x{};
  for_vectors(p.length, dropout, [&](std::int64_t i, int lanes) {
    const Vec gradient = dropout.apply(i, incoming.behind_relu(i, lanes));
    plain += gradient;
    times_x += gradient * first_lanes(load_part(incoming.x + i, lanes) - incoming.channel.mean, lanes);
  });
  sums[0] += sum_lanes(plain);
  sums[1] += sum_lanes(times_x);
}

// partial (count, c, 2): its first (c, 2) become the sums of `add_row_sums` over all rows of a channel.
bool channel_sums(const BlockTailProblem& p, const Chunks& chunks, const float* y, const float* y_gradient,
                  double* partial) {
  const bool done = parallel_chunks(chunks.count, p.threads, 0, [&](std::int64_t chunk, float*) {
    double* const sums = partial + 2 * chunk * p.c;
    std::fill(sums, sums + 2 * p.c, 0.0);
    for (std::int64_t row = chunks.first(chunk) * p.c; row < chunks.last(chunk) * p.c; ++row)
      add_row_sums(p, row, GradientRow(p, row, y, y_gradient), sums + 2 * (row % p.c));
  });
  for (std::int64_t chunk = 1; chunk < chunks.count; ++chunk)
    for (std::int64_t i = 0; i < 2 * p.c; ++i) partial[i] += partial[2 * chunk * p.c + i];
  return done;
}

// sums: of the row's channel, or nullptr where the statistics are constants.
void backward_row(const BlockTailProblem& p, std::int64_t row, const GradientRow& incoming, const double* sums,
                  const BlockTailGradients& gradients) {
  const Channel& channel = incoming.channel;
  const float scale = channel.scale();
  const double elements = static_cast<double>(p.n) * static_cast<double>(p.length);
  const double variance_share = static_cast<double>(channel.inverse_std) * channel.inverse_std / elements;
  const float mean_share = sums ? static_cast<float>(sums[0] / elements) : 0.0f;
  const float slope = sums ? static_cast<float>(sums[1] * variance_share) : 0.0f;
  float* const x_gradient = gradients.x ? gradients.x + row * p.length : nullptr;
  float* const residual_gradient = gradients.residual ? gradients.residual + row * p.length : nullptr;
  Dropout dropout(p, row);
  for_vectors(p.length, dropout, [&](std::int64_t i, int lanes) {
    const Vec gradient = incoming.behind_relu(i, lanes);
    if (residual_gradient != nullptr) store_part(residual_gradient + i, gradient, lanes);
    if (x_gradient == nullptr) return;
    Vec centred = dropout.apply(i, gradient);
    if (sums != nullptr) centred -= mean_share + slope * (load_part(incoming.x + i, lanes) - channel.mean);
    store_part(x_gradient + i, scale * centred, lanes);
  });
}

bool backward(const BlockTailProblem& p, bool through_statistics, const float* y, const float* y_gradient,
              const BlockTailGradients& gradients) {
  const Chunks chunks(p.n, p.c, p.length);
  double* const sums = partial_sums(chunks, p.c);
  if (sums == nullptr) return false;
  const bool needs_sums = gradients.weight || gradients.bias || (through_statistics && gradients.x);
  if (needs_sums && !channel_sums(p, chunks, y, y_gradient, sums)) return false;
  for (std::int64_t channel = 0; channel < p.c; ++channel) {
    if (gradients.bias) gradients.bias[channel] = static_cast<float>(sums[2 * channel]);
    if (gradients.weight)
      gradients.weight[channel] = static_cast<float>(sums[2 * channel + 1] * p.inverse_std[channel]);
  }
  if (!gradients.x && !gradients.residual) return true;
  return parallel_chunks(chunks.count, p.threads, 0, [&](std::int64_t chunk, float*) {
    for (std::int64_t row = chunks.first(chunk) * p.c; row < chunks.last(chunk) * p.c; ++row)
      backward_row(p, row, GradientRow(p, row, y, y_gradient), through_statistics ? sums + 2 * (row % p.c) : nullptr,
                   gradients);
  });
}

}  // namespace

extern const BlockTail block_tail;
const BlockTail block_tail{statistics, forward, backward};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
