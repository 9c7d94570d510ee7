// A vector of floats of the level's width, by the compiler's vector extension: one source for all levels.
// Everything is in an unnamed namespace, because a level file must not define weak symbols.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#define SKELKERN_LANES 16
#elif defined(__AVX2__)
#define SKELKERN_LANES 8
#else
#define SKELKERN_LANES 4  // SSE2 and NEON
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SKELKERN_INLINE inline __attribute__((always_inline))

namespace {

constexpr int kLanes = SKELKERN_LANES;
typedef float Vec __attribute__((vector_size(4 * SKELKERN_LANES)));
typedef std::int32_t IntVec __attribute__((vector_size(4 * SKELKERN_LANES)));

SKELKERN_INLINE Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

SKELKERN_INLINE void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

// Subtracting zero changes no value and costs nothing; adding it would turn -0 into 0 and cost an instruction.
SKELKERN_INLINE Vec splat(float value) { return value - Vec{}; }

// The first `count` lanes (0..kLanes) from p, the rest 0; never reads past p[count - 1]. Where there are no masks, gcc
// copies a variable number of bytes by a call: full vectors take the short way.
SKELKERN_INLINE Vec load_part(const float* p, int count) {
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
#else
  if (count == kLanes) return load(p);
  Vec v{};
  std::memcpy(&v, p, static_cast<std::size_t>(count) * sizeof(float));
  return v;
#endif
}

SKELKERN_INLINE void store_part(float* p, Vec v, int count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), (__m512)v);
#else
  if (count == kLanes) return store(p, v);
  std::memcpy(p, &v, static_cast<std::size_t>(count) * sizeof(float));
#endif
}

// Lanes of a vector at i that lie below `end`.
SKELKERN_INLINE int lanes_left(std::int64_t end, std::int64_t i) {
  return end - i < kLanes ? static_cast<int>(end - i) : kLanes;
}

// The first `count` bytes at p as whole numbers, the rest 0. (gcc 12 converts vectors of bytes one by one.)
SKELKERN_INLINE IntVec load_bytes(const std::uint8_t* p, int count) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  return (IntVec)_mm512_maskz_cvtepu8_epi32(mask, _mm_maskz_loadu_epi8(mask, p));
#else
  IntVec v{};
#if defined(__AVX2__)
  if (count == kLanes) return (IntVec)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#endif
  for (int i = 0; i < count; ++i) v[i] = p[i];
  return v;
#endif
}

// The first `count` lanes, from 0 to 255 each, to bytes at p.
SKELKERN_INLINE void store_bytes(std::uint8_t* p, IntVec v, int count) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)v);
  _mm_mask_storeu_epi8(p, static_cast<__mmask16>((1u << count) - 1), bytes);
#else
  for (int i = 0; i < count; ++i) p[i] = static_cast<std::uint8_t>(v[i]);
#endif
}

// Bit i says whether lane i of v is at most that of bound; NaN is not.
SKELKERN_INLINE std::uint64_t lanes_at_most(Vec v, Vec bound) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)v, (__m512)bound, _CMP_LE_OQ);
#elif defined(__AVX2__)
  return static_cast<std::uint64_t>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, (__m256)bound, _CMP_LE_OQ)));
#else
  const IntVec found = v <= bound;
  std::uint64_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= static_cast<std::uint64_t>(found[i] & 1) << i;
  return bits;
#endif
}

SKELKERN_INLINE float sum_lanes(Vec v) {
  float partial[kLanes];
  store(partial, v);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) partial[i] += partial[i + width];
  return partial[0];
}

inline float dot(const float* a, const float* b, std::int64_t n) {
  Vec sum{};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum += load(a + i) * load(b + i);
  const int rest = static_cast<int>(n - i);
  return sum_lanes(sum + load_part(a + i, rest) * load_part(b + i, rest));
}

SKELKERN_INLINE IntVec lane_numbers() {
  IntVec lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  return lanes;
}

// v with the lanes from `count` on set to 0.
SKELKERN_INLINE Vec first_lanes(Vec v, std::int64_t count) {
  const int kept = count < kLanes ? static_cast<int>(count) : kLanes;
  return (Vec)((IntVec)v & (lane_numbers() < (IntVec{} + kept)));
}

// Transposes a kLanes x kLanes block held in registers by swapping ever larger sub-blocks.
SKELKERN_INLINE void transpose_lanes(Vec (&rows)[kLanes]) {
  const IntVec lane = lane_numbers();
#pragma GCC unroll 4
  for (int width = 1; width < kLanes; width *= 2) {
    const IntVec upper = (lane & width) != 0;
    const IntVec low = upper ? lane - width + kLanes : lane;
    const IntVec high = upper ? lane + kLanes : lane + width;
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i & width) continue;
      const Vec a = rows[i], b = rows[i + width];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + width] = __builtin_shuffle(a, b, high);
    }
  }
}

// Rounds a leading dimension up to an odd multiple of 16 floats: whole vectors at every level, and no
// power of two, which would map all rows to the same few cache sets.
constexpr std::int64_t padded(std::int64_t floats) {
  const std::int64_t blocks = (floats + 15) / 16;
  return 16 * (blocks | 1);
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

constexpr std::int64_t round_up(std::int64_t value, std::int64_t step) { return ceil_div(value, step) * step; }

// A whole block of kLanes x kLanes; source_ld and target_ld as below.
SKELKERN_INLINE void transpose_block(const float* source, std::int64_t source_ld, float* target,
                                     std::int64_t target_ld) {
  Vec block[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) block[i] = load(source + i * source_ld);
  transpose_lanes(block);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(target + i * target_ld, block[i]);
}

inline void transpose_part(const float* source, std::int64_t source_ld, int rows, int columns, float* target,
                           std::int64_t target_ld) {
  Vec block[kLanes] = {};
  for (int i = 0; i < rows; ++i) block[i] = load_part(source + i * source_ld, columns);
  transpose_lanes(block);
  for (int i = 0; i < columns; ++i) store_part(target + i * target_ld, block[i], rows);
}

// source (rows, columns) with leading dimension source_ld -> target (columns, rows) with target_ld.
inline void transpose(const float* source, std::int64_t source_ld, std::int64_t rows, std::int64_t columns,
                      float* target, std::int64_t target_ld) {
  for (std::int64_t i = 0; i < rows; i += kLanes)
    for (std::int64_t j = 0; j < columns; j += kLanes) {
      const int height = lanes_left(rows, i), width = lanes_left(columns, j);
      const float* const from = source + i * source_ld + j;
      float* const to = target + j * target_ld + i;
      if (height == kLanes && width == kLanes)
        transpose_block(from, source_ld, to, target_ld);
      else
        transpose_part(from, source_ld, height, width, to, target_ld);
    }
}

}  // namespace
