// Vectors of powers of two.
#pragma once

#include "common/simd.h"

namespace {

constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits

// 2^(whole + fraction), fraction in [-1/2, 1/2]; shifted = whole + kRounding.
SKELKERN_INLINE Vec scaled_power(Vec shifted, Vec fraction) {
  const Vec scale = (Vec)(((IntVec)shifted - (IntVec)splat(kRounding) + 127) << 23);  // 2^whole
  // minimax polynomial of 2^fraction, coefficients of the Cephes library
  Vec value = splat(1.5353362e-4f);
  value = value * fraction + splat(1.3398874e-3f);
  value = value * fraction + splat(9.6184374e-3f);
  value = value * fraction + splat(5.5503325e-2f);
  value = value * fraction + splat(2.4022648e-1f);
  value = value * fraction + splat(6.9314720e-1f);
  value = value * fraction + splat(1.0f);
  return value * scale;
}

// 2^x within 2 ulp for x <= 127; 0 below the normal numbers (x < -126). NaN stays NaN.
SKELKERN_INLINE Vec power_of_two(Vec x) {
  const IntVec underflow = x < splat(-126.0f);
  x = underflow ? splat(-126.0f) : x;
  const Vec shifted = x + splat(kRounding);
  return underflow ? Vec{} : scaled_power(shifted, x - (shifted - splat(kRounding)));
}

// e^x within 2 ulp for x <= 88; 0 below the normal numbers (x < -87). NaN stays NaN.
SKELKERN_INLINE Vec exponential(Vec x) {
  const IntVec underflow = x < splat(-87.0f);
  x = underflow ? splat(-87.0f) : x;
  const Vec shifted = x * 1.4426950408889634f + splat(kRounding), whole = shifted - splat(kRounding);
  const Vec rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;  // ln 2 in two parts, the first product exact
  return underflow ? Vec{} : scaled_power(shifted, rest * 1.4426950408889634f);
}

}  // namespace
