// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) for blocks of 64 words.
//
// Counters are the 64-bit numbers 0, 1, ... in their two low words, the key is the seed. Block b holds the words of the
// counters 16 b to 16 b + 15: first the first word of each, then the second ones, and so on.
#pragma once

#include "common/simd.h"

namespace {

constexpr int kPhiloxBlock = 64;

constexpr int kWideLanes = kLanes / 2;
typedef std::uint64_t WideVec __attribute__((vector_size(8 * (SKELKERN_LANES / 2))));
typedef std::uint32_t NarrowVec __attribute__((vector_size(4 * (SKELKERN_LANES / 2))));

// Products of the low halves of every lane.
SKELKERN_INLINE WideVec multiply_low(WideVec a, WideVec b) {
#if defined(__AVX512F__)
  return (WideVec)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (WideVec)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (WideVec)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

// words: kPhiloxBlock of them. Upper halves of lanes hold anything until the words are stored.
inline void philox_block(std::uint64_t seed, std::uint64_t block, std::uint32_t* words) {
  const WideVec multiplier0 = WideVec{} + 0xD2511F53u, multiplier1 = WideVec{} + 0xCD9E8D57u;
  WideVec lanes;
  for (int i = 0; i < kWideLanes; ++i) lanes[i] = static_cast<std::uint64_t>(i);
#pragma GCC unroll 2
  for (int first = 0; first < 16; first += kWideLanes) {
    const WideVec counter = lanes + (16 * block + static_cast<std::uint64_t>(first));
    WideVec c[4] = {counter, counter >> 32, WideVec{}, WideVec{}};
    std::uint32_t key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const WideVec product0 = multiply_low(c[0], multiplier0), product1 = multiply_low(c[2], multiplier1);
      c[0] = (product1 >> 32) ^ c[1] ^ (WideVec{} + key0);
      c[1] = product1;
      c[2] = (product0 >> 32) ^ c[3] ^ (WideVec{} + key1);
      c[3] = product0;
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    for (int word = 0; word < 4; ++word) {
      const NarrowVec narrow = __builtin_convertvector(c[word], NarrowVec);
      std::memcpy(words + 16 * word + first, &narrow, sizeof narrow);
    }
  }
}

}  // namespace
