// The k smallest values of a row, in order, ties to the lower place.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/simd.h"

namespace {

constexpr std::int64_t kGroups = 64;          // a row is cut into so many groups; its length is a multiple of that
constexpr std::int64_t kMostCandidates = 96;  // with more the whole row is searched
constexpr int kGroupVecs = kGroups / kLanes;

// Smallest value of each group, one group a lane; ignores NaN.
struct GroupMinima {
  Vec of[kGroupVecs];

  SKELKERN_INLINE GroupMinima(const float* row, std::int64_t length) {
    for (int i = 0; i < kGroupVecs; ++i) of[i] = splat(__builtin_inff());
    for (std::int64_t first = 0; first < length; first += kGroups)
#pragma GCC unroll 16
      for (int i = 0; i < kGroupVecs; ++i) {
        const Vec value = load(row + first + i * kLanes);
        of[i] = value < of[i] ? value : of[i];
      }
  }

  SKELKERN_INLINE int at_most(float bound) const {
    int total = 0;
#pragma GCC unroll 16
    for (int i = 0; i < kGroupVecs; ++i) total += __builtin_popcountll(lanes_at_most(of[i], splat(bound)));
    return total;
  }

  SKELKERN_INLINE void range(float* low, float* high) const {
    Vec least = of[0], most = splat(-__builtin_inff());
#pragma GCC unroll 16
    for (int i = 0; i < kGroupVecs; ++i) {
      least = of[i] < least ? of[i] : least;
      most = (of[i] > most) & (of[i] < splat(__builtin_inff())) ? of[i] : most;
    }
    *low = least[0], *high = most[0];
    for (int lane = 1; lane < kLanes; ++lane) {
      *low = std::min(*low, least[lane]);
      *high = std::max(*high, most[lane]);
    }
  }
};

// A bound that at least k values of the row, and rarely many more, reach: at least k groups do. False where none is
// finite, as with fewer than k finite values.
inline bool find_bound(const GroupMinima& minima, std::int64_t k, float* bound) {
  float low, high;
  minima.range(&low, &high);
  if (low == -__builtin_inff() || minima.at_most(high) < k) return false;
  for (int step = 0; step < 12; ++step) {
    const float middle = low + (high - low) / 2;
    const int count = minima.at_most(middle);
    if (count >= k) high = middle;
    if (count >= k && count <= k + 2) break;
    if (count < k) low = middle;
  }
  *bound = high;
  return true;
}

// One bit for each of kGroups values: whether it is <= bound.
SKELKERN_INLINE std::uint64_t bits_at_most(const float* values, float bound) {
  std::uint64_t bits = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kGroupVecs; ++i) bits |= lanes_at_most(load(values + i * kLanes), splat(bound)) << (i * kLanes);
  return bits;
}

// Writes the places of values <= bound in order and returns their number, which is larger than kMostCandidates where
// not all were written. Four of 64 values are written whether found or not: a branch for each would be guessed wrong.
inline std::int64_t collect(const float* row, std::int64_t length, float bound, std::int32_t* places) {
  std::int64_t count = 0;
  for (std::int64_t first = 0; first < length && count <= kMostCandidates; first += kGroups) {
    std::uint64_t bits = bits_at_most(row + first, bound);
    std::int32_t* place = places + count;
    count += __builtin_popcountll(bits);
    const auto take = [&] {
      *place++ = static_cast<std::int32_t>(first) + __builtin_ctzll(bits | (std::uint64_t{1} << 63));
      bits &= bits - 1;
    };
    take(), take(), take(), take();
    while (bits != 0) take();
  }
  return count;
}

// Whole numbers that order as the values do. -0 is 0; NaN and -infinity, which only overflow makes, are infinite.
SKELKERN_INLINE IntVec ordered_keys(Vec value) {
  value = value > splat(-__builtin_inff()) ? value + Vec{} : splat(__builtin_inff());
  const IntVec bits = (IntVec)value;
  return bits ^ ((bits >> 31) & INT32_MAX);
}

// 0 in the first half, -1 in the second: loaded at kLanes - n it is -1 in the lanes from n on.
alignas(64) constexpr std::int32_t kFromLane[2 * kLanes] = {
#if SKELKERN_LANES == 16
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0, 0, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1
#elif SKELKERN_LANES == 8
    0,  0,  0,  0,  0,  0,  0, 0, -1,
    -1, -1, -1, -1, -1, -1, -1
#else
    0,  0,  0, 0, -1,
    -1, -1, -1
#endif
};

SKELKERN_INLINE IntVec load_integers(const std::int32_t* p) {
  IntVec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Orders `count` places, given in rising order, by their keys, ties to the lower place, and writes the first k. keys
// has room for a whole vector behind its end; `ranks` for as many.
inline void write_in_order(std::int32_t* keys, const std::int32_t* places, std::int64_t count, std::int64_t k,
                           std::int32_t* ranks, std::int64_t* sorted) {
  std::fill(keys + count, keys + round_up(count, kLanes), INT32_MAX);
  for (std::int64_t first = 0; first < count; first += kLanes) {
    const IntVec own = load_integers(keys + first);
    IntVec rank{};
    std::int64_t i = 0;
    for (; i < first; ++i) rank -= own >= keys[i];
    for (; i < std::min(count, first + kLanes); ++i)  // own > key - 1 is own >= key, for the lanes behind i
      rank -= own > keys[i] + load_integers(kFromLane + kLanes - (i - first + 1));
    for (; i < count; ++i) rank -= own > keys[i];
    std::memcpy(ranks + first, &rank, sizeof rank);
  }
  for (std::int64_t i = 0; i < count; ++i)
    if (ranks[i] < k) sorted[ranks[i]] = places[i];
}

// The k-th smallest of a row of keys, by bisection of their range.
inline std::int32_t kth_smallest(const float* keys, std::int64_t length, std::int64_t k) {
  std::int64_t low = INT32_MIN, high = INT32_MAX;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    IntVec found{};
    for (std::int64_t i = 0; i < length; i += kLanes)
      found -= (IntVec)load(keys + i) <= static_cast<std::int32_t>(middle);
    std::int64_t count = 0;
    for (int lane = 0; lane < kLanes; ++lane) count += found[lane];
    if (count >= k)
      high = middle;
    else
      low = middle + 1;
  }
  return static_cast<std::int32_t>(low);
}

// Places in int32 arrays, and their keys: room for the candidates of a row.
struct Candidates {
  std::int32_t *places, *keys, *ranks;

  static std::int64_t room(std::int64_t k) { return std::max(k, kMostCandidates + kGroups) + 2 * kLanes; }
};

// The k smallest values of a row, whatever they are. `mask` (n) says which count, at least k of them; nullptr: all do.
// The row becomes keys.
inline void select_exactly(float* row, std::int64_t length, std::int64_t n, const bool* mask, std::int64_t k,
                           const Candidates& candidates, std::int64_t* sorted) {
  for (std::int64_t i = 0; i < length; i += kLanes) store(row + i, (Vec)ordered_keys(load(row + i)));
  const float excluded = ((Vec)(IntVec{} + INT32_MAX))[0];
  for (std::int64_t i = 0; mask != nullptr && i < n; ++i)
    if (!mask[i]) std::memcpy(row + i, &excluded, sizeof excluded);
  std::fill(row + n, row + length, excluded);
  const std::int32_t bound = kth_smallest(row, length, k);
  std::int64_t below = 0, count = 0;
  for (std::int64_t i = 0; i < length; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) below += ((IntVec)load(row + i))[lane] < bound;
  for (std::int64_t i = 0, ties = k - below; i < n && count < k; ++i) {
    std::int32_t key;
    std::memcpy(&key, row + i, sizeof key);
    if (key > bound || (key == bound && ties-- <= 0)) continue;
    candidates.places[count] = static_cast<std::int32_t>(i);
    candidates.keys[count++] = key;
  }
  write_in_order(candidates.keys, candidates.places, count, k, candidates.ranks, sorted);
}

// As `select_exactly`, by way of a bound that few values reach; values that do not count are infinite.
inline void select(float* row, std::int64_t length, std::int64_t n, const bool* mask, std::int64_t k,
                   const Candidates& candidates, std::int64_t* sorted) {
  float bound;
  if (k <= kGroups * 5 / 8 && find_bound(GroupMinima(row, length), k, &bound)) {
    const std::int64_t count = collect(row, length, bound, candidates.places);
    if (count <= kMostCandidates) {
      for (std::int64_t i = 0; i < count; ++i) std::memcpy(candidates.keys + i, row + candidates.places[i], 4);
      for (std::int64_t i = 0; i < count; i += kLanes) {
        const IntVec keys = ordered_keys((Vec)load_integers(candidates.keys + i));
        std::memcpy(candidates.keys + i, &keys, sizeof keys);
      }
      write_in_order(candidates.keys, candidates.places, count, k, candidates.ranks, sorted);
      return;
    }
  }
  select_exactly(row, length, n, mask, k, candidates, sorted);
}

}  // namespace
