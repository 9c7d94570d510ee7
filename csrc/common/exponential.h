// Vectors of powers of two.
#pragma once

#include "common/simd.h"

namespace {

// 2^x within 2 ulp for x <= 127; 0 below the normal numbers (x < -126). NaN stays NaN.
SKELKERN_INLINE Vec power_of_two(Vec x) {
  const IntVec underflow = x < splat(-126.0f);
  x = underflow ? splat(-126.0f) : x;
  const Vec shift = splat(12582912.0f);  // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits
  const Vec shifted = x + shift;
  const Vec fraction = x - (shifted - shift);                              // in [-1/2, 1/2]
  const Vec scale = (Vec)(((IntVec)shifted - (IntVec)shift + 127) << 23);  // 2^whole
  // minimax polynomial of 2^fraction, coefficients of the Cephes library
  Vec value = splat(1.5353362e-4f);
  value = value * fraction + splat(1.3398874e-3f);
  value = value * fraction + splat(9.6184374e-3f);
  value = value * fraction + splat(5.5503325e-2f);
  value = value * fraction + splat(2.4022648e-1f);
  value = value * fraction + splat(6.9314720e-1f);
  value = value * fraction + splat(1.0f);
  return underflow ? Vec{} : value * scale;
}

}  // namespace
