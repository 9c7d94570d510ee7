// Points of clouds as kernels search them: a thread holds one in registers, a block shares a tile of candidates.
#pragma once

#include "common/cuda_kernel.h"

namespace skelkern {

constexpr int kTile = 128;  // candidates
constexpr unsigned kInfinity = 0x7f800000u;
constexpr unsigned kNowhere = 0xffffffffu;  // what a point that does not count has for a key, behind every distance

// One cloud of a batch.
struct Cloud {
  const float* points;   // (n, d)
  const bool* mask;      // (n), points that count; nullptr: all do
  const float* weights;  // (d), of squared differences; nullptr: all 1
  const float* centre;   // (d); nullptr: the origin
  std::int64_t n, d;

  __device__ bool counts(std::int64_t i) const { return i < n && (mask == nullptr || mask[i]); }

  // Scaled by the weight's root, about the centre; 0 outside the array.
  __device__ __forceinline__ float coordinate(std::int64_t i, std::int64_t c) const {
    if (i >= n || c >= d) return 0.0f;
    const float value = centre == nullptr ? points[i * d + c] : points[i * d + c] - centre[c];
    return weights == nullptr ? value : sqrtf(weights[c]) * value;
  }
};

// Orders as squared distances do; NaN is infinite.
__device__ __forceinline__ unsigned distance_key(float squared_distance) {
  const unsigned bits = __float_as_uint(squared_distance);
  return bits < kInfinity ? bits : kInfinity;
}

// Up to 4 V - 1 coordinates in V float4, scaled by the roots of the weights, zeros behind them. In the last place is
// the key that the point brings: kNowhere where it does not count, else 0.
template <int V>
struct Packed {
  float4 parts[V];

  __device__ __forceinline__ Packed(const Cloud& cloud, std::int64_t i) {
    const bool counts = cloud.counts(i);
    float values[4 * V];
#pragma unroll
    for (int c = 0; c < 4 * V - 1; ++c) values[c] = counts ? cloud.coordinate(i, c) : 0.0f;
    values[4 * V - 1] = __uint_as_float(counts ? 0 : kNowhere);
#pragma unroll
    for (int v = 0; v < V; ++v)
      parts[v] = make_float4(values[4 * v], values[4 * v + 1], values[4 * v + 2], values[4 * v + 3]);
  }

  template <class Tile>
  __device__ __forceinline__ Packed(Tile& tile, int j) {
#pragma unroll
    for (int v = 0; v < V; ++v) parts[v] = tile[j * V + v];
  }

  template <class Tile>
  __device__ __forceinline__ void store(Tile& tile, int j) const {
#pragma unroll
    for (int v = 0; v < V; ++v) tile[j * V + v] = parts[v];
  }

  // Of the squared distance between the points.
  __device__ __forceinline__ unsigned key_to(const Packed& other) const {
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const float4 a = parts[v], b = other.parts[v];
      sum += (b.x - a.x) * (b.x - a.x);
      sum += (b.y - a.y) * (b.y - a.y);
      sum += (b.z - a.z) * (b.z - a.z);
      if (v < V - 1) sum += (b.w - a.w) * (b.w - a.w);
    }
    return distance_key(sum) | __float_as_uint(other.parts[V - 1].w);
  }
};

// Points [first, first + kTile) of a cloud become a tile; barriers around are the caller's.
template <int V, class Tile>
__device__ __forceinline__ void load_tile(const Cloud& cloud, std::int64_t first, Tile& tile) {
  for (int j = static_cast<int>(threadIdx.x); j < kTile; j += static_cast<int>(blockDim.x))
    Packed<V>(cloud, first + j).store(tile, j);
}

// Threads of a block that has one query a thread: few where clouds are small or there would be fewer blocks than the
// largest GPU can run at once.
inline int threads_for(std::int64_t clouds, std::int64_t queries) {
  constexpr std::int64_t kBlocks = 264;
  int threads = kTile;
  while (threads > kWarp && (queries <= threads / 2 || clouds * ceil_div<std::int64_t>(queries, threads) < kBlocks))
    threads /= 2;
  return threads;
}

}  // namespace skelkern
