// The best entries of every query so far, shared by all threads: whatever the order of offers, the same k remain.
#pragma once

#include <algorithm>
#include <cstdint>

namespace {

struct Lists {
  std::int64_t k;
  float* similarities;    // (q, k), most similar first
  std::int64_t* indices;  // (q, k), ties to the lower one
  float* bounds;          // (q) the k-th similarity, -infinity before; read without a lock: an old one is lower
  std::int32_t* counts;   // (q) entries
  std::int32_t* locks;    // (q)

  // Arrays beside the lists themselves, in floats.
  static std::int64_t floats(std::int64_t q) { return 3 * q; }

  Lists(std::int64_t entries, std::int64_t q, float* memory, float* similarity, std::int64_t* index)
      : k(entries),
        similarities(similarity),
        indices(index),
        bounds(memory),
        counts(reinterpret_cast<std::int32_t*>(memory + q)),
        locks(reinterpret_cast<std::int32_t*>(memory + 2 * q)) {
    std::fill_n(bounds, q, -__builtin_inff());
    std::fill_n(counts, 2 * q, 0);
  }

  void lock(std::int64_t query) const {
    while (__atomic_exchange_n(locks + query, 1, __ATOMIC_ACQUIRE) != 0) {
    }
  }

  void unlock(std::int64_t query) const { __atomic_store_n(locks + query, 0, __ATOMIC_RELEASE); }

  void offer(std::int64_t query, float similarity, std::int64_t index) const {
    lock(query);
    insert(query, similarity, index);
    unlock(query);
  }

  // Enters a similarity that is not NaN, if it is among the best; under the lock.
  void insert(std::int64_t query, float similarity, std::int64_t index) const {
    float* const values = similarities + query * k;
    std::int64_t* const places = indices + query * k;
    std::int64_t at = counts[query];
    const auto is_behind = [&](std::int64_t i) {
      return values[i] < similarity || (values[i] == similarity && places[i] > index);
    };
    if (at == k && !is_behind(at - 1)) return;
    if (at == k)
      --at;
    else
      ++counts[query];
    for (; at > 0 && is_behind(at - 1); --at) values[at] = values[at - 1], places[at] = places[at - 1];
    values[at] = similarity, places[at] = index;
    if (counts[query] == k) __atomic_store(bounds + query, values + k - 1, __ATOMIC_RELAXED);
  }
};

}  // namespace
