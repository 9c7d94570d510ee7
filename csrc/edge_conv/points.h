// Views of an edge convolution's arguments: one cloud, one block of its output channels.
#pragma once

#include <algorithm>

#include "common/tile.h"
#include "edge_conv/edge_conv.h"

namespace {

constexpr std::int64_t kChannels = 32;         // output channels of a block: u and v of a cloud stay in L2
constexpr std::int64_t kPair = 2 * kChannels;  // a point's u and v side by side
constexpr std::int64_t kStep = 2 * kLanes;     // channels handled at once: accumulators fit the registers
static_assert(kChannels % kStep == 0, "a block is whole steps");

// Neighbours within one cloud.
struct Graph {
  const std::int64_t* neighbors;  // (n, k)
  const bool* mask;               // (n) or nullptr
  std::int64_t n, k;

  Graph(const skelkern::EdgeConvProblem& problem, std::int64_t cloud)
      : neighbors(problem.neighbors + cloud * problem.n * problem.k),
        mask(problem.mask == nullptr ? nullptr : problem.mask + cloud * problem.n),
        n(problem.n),
        k(problem.k) {}

  bool has_point(std::int64_t i) const { return mask == nullptr || mask[i]; }

  std::int64_t edges(std::int64_t i) const {
    if (mask == nullptr) return k;
    std::int64_t count = 0;
    for (std::int64_t slot = 0; mask[i] && slot < k; ++slot) count += mask[neighbors[i * k + slot]];
    return count;
  }
};

// Output channels [first, first + width) of a cloud's points, width <= kChannels.
struct Block {
  std::int64_t first, width;

  Block(std::int64_t index, std::int64_t c_out)
      : first(index * kChannels), width(std::min(kChannels, c_out - index * kChannels)) {}

  // How many of the kLanes channels from `channel` on exist.
  int lanes(std::int64_t channel) const {
    return static_cast<int>(std::clamp<std::int64_t>(width - channel, 0, kLanes));
  }
};

// The maps to u and v of one block, in both orders.
//   columns (c, kPair): channel d of x to kChannels channels of u, then of v
//   rows (kPair, c_padded): the same transposed, rows padded with zeros
inline void pack_weight(const skelkern::EdgeConvProblem& problem, const Block& block, std::int64_t c_padded,
                        float* columns, float* rows) {
  std::fill_n(columns, problem.c * kPair, 0.0f);
  std::fill_n(rows, kPair * c_padded, 0.0f);
  for (std::int64_t channel = 0; channel < block.width; ++channel) {
    const float* const w1 = problem.weight + (block.first + channel) * 2 * problem.c;
    for (std::int64_t d = 0; d < problem.c; ++d) {
      const float to_u = w1[d], to_v = w1[problem.c + d] - w1[d];
      columns[d * kPair + channel] = rows[channel * c_padded + d] = to_u;
      columns[d * kPair + kChannels + channel] = rows[(kChannels + channel) * c_padded + d] = to_v;
    }
  }
}

// The scale and shift of a block's channels in one place. Every array (kChannels), zero where there is no channel.
struct BlockTail {
  float mean[kChannels], inverse_std[kChannels], gamma[kChannels], beta[kChannels];
  float slope;

  BlockTail(const skelkern::EdgeConvProblem& problem, const skelkern::EdgeConvTail& tail, const Block& block)
      : mean{}, inverse_std{}, gamma{}, beta{}, slope(tail.negative_slope) {
    std::copy_n(tail.mean + block.first, block.width, mean);
    std::copy_n(tail.inverse_std + block.first, block.width, inverse_std);
    std::copy_n(problem.gamma + block.first, block.width, gamma);
    std::copy_n(tail.beta + block.first, block.width, beta);
  }

  SKELKERN_INLINE Vec normalised(Vec e, std::int64_t channel) const {
    return (e - load(mean + channel)) * load(inverse_std + channel);
  }

  SKELKERN_INLINE Vec before_activation(Vec e, std::int64_t channel) const {
    return normalised(e, channel) * load(gamma + channel) + load(beta + channel);
  }

  SKELKERN_INLINE Vec activated(Vec e, std::int64_t channel) const {
    const Vec z = before_activation(e, channel);
    return z > Vec{} ? z : z * splat(slope);
  }

  // The gradient before the activation.
  SKELKERN_INLINE Vec through_activation(Vec e, Vec gradient, std::int64_t channel) const {
    return before_activation(e, channel) > Vec{} ? gradient : gradient * splat(slope);
  }
};

}  // namespace
