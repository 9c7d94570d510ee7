// How kernels of an edge convolution share out points and channels: a thread has V channels, side by side so that one
// load brings them, and some points.
#pragma once

#include "common/cuda_kernel.h"
#include "edge_conv/edge_conv.h"

namespace skelkern {
namespace {

constexpr int kThreads = 128;
#ifdef SKELKERN_EMULATED
constexpr std::int64_t kFewBlocks = 8;  // so that threads go on to more points there, too
#else
constexpr std::int64_t kFewBlocks = 528;  // the largest GPU runs as many at once
#endif

// Blocks of `rows` points by `lanes` threads with channels; a thread goes on to `points` points.
struct Layout {
  int vec, lanes, rows, points;
  std::int64_t blocks, stripes;  // of points; of channels

  // By the shape alone: as many points a thread as leave more than a few blocks.
  explicit Layout(const EdgeConvProblem& problem)
      : vec(problem.c_out % 4 == 0 ? 4 : 1), lanes(1), rows(0), points(8), blocks(0), stripes(0) {
    const std::int64_t vecs = problem.c_out / vec;
    while (lanes < kWarp && lanes < vecs) lanes *= 2;
    rows = kThreads / lanes;
    stripes = ceil_div<std::int64_t>(vecs, lanes);
    while (points > 1 && ceil_div<std::int64_t>(problem.b * problem.n, rows * points) * stripes < kFewBlocks)
      points /= 2;
    blocks = ceil_div<std::int64_t>(problem.b * problem.n, rows * points);
  }

  dim3 grid() const { return dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(stripes)); }
};

// A thread's place.
struct Spot {
  std::int64_t channel;      // the first of V
  std::int64_t first, last;  // points first, first + rows, ... before last
  int rows;

  __device__ Spot(const EdgeConvProblem& problem, const Layout& layout)
      : channel((static_cast<std::int64_t>(blockIdx.y) * layout.lanes + threadIdx.x % layout.lanes) * layout.vec),
        first(static_cast<std::int64_t>(blockIdx.x) * layout.rows * layout.points + threadIdx.x / layout.lanes),
        last((static_cast<std::int64_t>(blockIdx.x) + 1) * layout.rows * layout.points),
        rows(layout.rows) {
    if (last > problem.b * problem.n) last = problem.b * problem.n;
    if (channel >= problem.c_out) last = first;
  }
};

template <int V>
__device__ __forceinline__ void load(const float* from, float (&values)[V]) {
  if constexpr (V == 4) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
  } else {
    values[0] = *from;
  }
}

template <int V>
__device__ __forceinline__ void store(float* to, const float (&values)[V]) {
  if constexpr (V == 4)
    *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
  else
    *to = values[0];
}

// V bytes in one number, the first channel's lowest.
template <int V>
__device__ __forceinline__ unsigned load_bytes(const std::uint8_t* from) {
  if constexpr (V == 4) return *reinterpret_cast<const unsigned*>(from);
  return *from;
}

template <int V>
__device__ __forceinline__ void store_bytes(std::uint8_t* to, const int (&values)[V]) {
  if constexpr (V == 4)
    *reinterpret_cast<unsigned*>(to) =
        static_cast<unsigned>(values[0] | values[1] << 8 | values[2] << 16) | static_cast<unsigned>(values[3]) << 24;
  else
    *to = static_cast<std::uint8_t>(values[0]);
}

// Neighbours within one cloud.
struct Neighbors {
  const std::int64_t* indices;  // (n, k)
  const bool* mask;             // (n) or nullptr
  std::int64_t n, k;

  __device__ Neighbors(const EdgeConvProblem& problem, std::int64_t cloud)
      : indices(problem.neighbors + cloud * problem.n * problem.k),
        mask(problem.mask == nullptr ? nullptr : problem.mask + cloud * problem.n),
        n(problem.n),
        k(problem.k) {}

  __device__ __forceinline__ bool has_point(std::int64_t i) const {
    return i >= 0 && i < n && (mask == nullptr || mask[i]);
  }
};

}  // namespace
}  // namespace skelkern
