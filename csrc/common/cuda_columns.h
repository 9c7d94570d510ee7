// Points of any number of coordinates against kColumns candidates at a time: a thread of a block of kRows holds one
// query, both sides of a product pass through shared memory by kChunk coordinates.
#pragma once

#include "common/cuda_clouds.h"

namespace skelkern {

constexpr int kRows = 64;
constexpr int kColumns = 16;
constexpr int kColumnVecs = kColumns / 4;
constexpr int kChunk = 128;
constexpr int kQueryFloats = kChunk * (kRows + 1);
constexpr int kColumnFloat4s = kChunk * (kColumnVecs + 1);

// Coordinates [chunk, chunk + kChunk) of kRows points from `first` on: queries (kChunk, kRows + 1).
template <class Queries>
__device__ __forceinline__ void load_queries(const Cloud& cloud, std::int64_t first, std::int64_t chunk,
                                             Queries& queries) {
  for (int i = static_cast<int>(threadIdx.x); i < kChunk * kRows; i += kRows) {
    const int c = i % kChunk, row = i / kChunk;
    queries[c * (kRows + 1) + row] = cloud.coordinate(first + row, chunk + c);
  }
}

// As many of kColumns candidates from `first` on: columns (kChunk, kColumnVecs + 1).
template <class Columns>
__device__ __forceinline__ void load_columns(const Cloud& cloud, std::int64_t first, std::int64_t chunk,
                                             Columns& columns) {
  for (int i = static_cast<int>(threadIdx.x); i < kChunk * kColumnVecs; i += kRows) {
    const int c = i % kChunk, vec = i / kChunk;
    float values[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) values[j] = cloud.coordinate(first + vec * 4 + j, chunk + c);
    columns[c * (kColumnVecs + 1) + vec] = make_float4(values[0], values[1], values[2], values[3]);
  }
}

struct AddProduct {
  __device__ __forceinline__ void operator()(float* sum, float a, float b) const { *sum += a * b; }
};

struct AddSquaredDifference {
  __device__ __forceinline__ void operator()(float* sum, float a, float b) const { *sum += (b - a) * (b - a); }
};

// sums (kColumns): `add` of a thread's query and each candidate over all coordinates. The queries are loaded anew where
// `load` or where they do not fit.
template <class Add, class Queries, class Columns>
__device__ __forceinline__ void combine_columns(const Cloud& rows, std::int64_t first_row, bool load,
                                                const Cloud& others, std::int64_t first, Queries& queries,
                                                Columns& columns, float (&sums)[kColumns]) {
  const Add add;
#pragma unroll
  for (int j = 0; j < kColumns; ++j) sums[j] = 0.0f;
  for (std::int64_t chunk = 0; chunk < rows.d; chunk += kChunk) {
    const int count = static_cast<int>(rows.d - chunk < kChunk ? rows.d - chunk : kChunk);
    __syncthreads();
    if (load || rows.d > kChunk) load_queries(rows, first_row, chunk, queries);
    load_columns(others, first, chunk, columns);
    __syncthreads();
#pragma unroll 4
    for (int c = 0; c < count; ++c) {
      const float own = queries[c * (kRows + 1) + threadIdx.x];
#pragma unroll
      for (int vec = 0; vec < kColumnVecs; ++vec) {
        const float4 other = columns[c * (kColumnVecs + 1) + vec];
        add(sums + vec * 4, own, other.x);
        add(sums + vec * 4 + 1, own, other.y);
        add(sums + vec * 4 + 2, own, other.z);
        add(sums + vec * 4 + 3, own, other.w);
      }
    }
  }
}

}  // namespace skelkern
