// Decimal numbers in text.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstring>

namespace {

constexpr double kPowersOfTen[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
constexpr std::uint64_t kExactIntegers = std::uint64_t{1} << 53;  // every smaller one is a double

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

constexpr std::uint64_t kWholePowersOfTen[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};

// Reads the digits, at most 8, that the 8 characters at p begin with: returns how many and sets *value, without a
// branch (after Langdale and Lemire, 2019, who read 8). Needs a little-endian processor.
inline int leading_digits(const char* p, std::uint64_t* value) {
  std::uint64_t bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  bytes ^= 0x3030303030303030;  // digits become 0 to 9, everything else is larger
  const std::uint64_t others = (bytes | (bytes + 0x7676767676767676)) & 0x8080808080808080;
  const int count = others == 0 ? 8 : __builtin_ctzll(others) / 8;
  bytes = count == 0 ? 0 : bytes << (64 - 8 * count);  // zeros in front, nothing behind
  bytes = bytes * 10 + (bytes >> 8);
  const std::uint64_t even = (bytes & 0x000000FF000000FF) * 0x000F424000000064;
  const std::uint64_t odd = (bytes >> 16 & 0x000000FF000000FF) * 0x0000271000000001;
  *value = (even + odd) >> 32;
  return count;
}

// Digits from p on, before end: adds them to *mantissa, counts them in *digits and returns where they end. *exact
// becomes false where the mantissa may have overflowed.
inline const char* read_digits(const char* p, const char* end, std::uint64_t* mantissa, int* digits, bool* exact) {
  while (end - p >= 8 && *mantissa < 10000000000u) {
    std::uint64_t value;
    const int count = leading_digits(p, &value);
    *mantissa = *mantissa * kWholePowersOfTen[count] + value;
    *digits += count;
    p += count;
    if (count < 8) return p;
  }
  for (; p < end && is_digit(*p); ++p) {
    if (*mantissa >= 100000000000000000u) *exact = false;
    *mantissa = *mantissa * 10 + static_cast<std::uint64_t>(*p - '0');
    ++*digits;
  }
  return p;
}

// Whether the number without a sign in [p, end), which is not zero, is below one.
inline bool is_below_one(const char* p, const char* end) {
  std::int64_t places = 0;  // of the first digit that is not 0, before the point; behind it they count downwards
  bool behind_point = false, counts = false;
  for (; p < end && (is_digit(*p) || *p == '.'); ++p) {
    counts |= *p != '0' && *p != '.';
    if (*p == '.')
      behind_point = true;
    else if (counts != behind_point)
      places += counts ? 1 : -1;
  }
  std::int64_t exponent = 0;
  const bool shrinks = p + 1 < end && p[1] == '-';
  for (; p < end; ++p)
    if (is_digit(*p) && exponent < 1000000000) exponent = exponent * 10 + (*p - '0');
  return places + (shrinks ? -exponent : exponent) <= 0;
}

// The number that begins at p: returns where it ends, nullptr if none does. The value is that of a correctly rounded
// double, rounded to float.
inline const char* read_number(const char* p, const char* end, float* value) {
  const char* const start = p;
  const bool negative = p < end && *p == '-';
  p += negative;
  std::uint64_t mantissa = 0;
  int digits = 0, decimals = 0;
  bool exact = true;
  p = read_digits(p, end, &mantissa, &digits, &exact);
  if (p < end && *p == '.') {
    const int before = digits;
    p = read_digits(p + 1, end, &mantissa, &digits, &exact);
    decimals = digits - before;
  }
  const bool has_exponent = p < end && (*p == 'e' || *p == 'E');
  if (digits > 0 && exact && !has_exponent && mantissa < kExactIntegers && decimals <= 22) {
    // both are doubles, so that their quotient is rounded once
    const double magnitude = static_cast<double>(mantissa) / kPowersOfTen[decimals];
    *value = static_cast<float>(negative ? -magnitude : magnitude);
    return p;
  }
  double parsed = 0.0;
  const std::from_chars_result result = std::from_chars(start, end, parsed);
  if (result.ec == std::errc::invalid_argument) return nullptr;
  if (result.ec == std::errc::result_out_of_range) {  // which leaves `parsed` as it was
    const double magnitude = is_below_one(start + negative, result.ptr) ? 0.0 : __builtin_inf();
    parsed = negative ? -magnitude : magnitude;
  }
  *value = static_cast<float>(parsed);
  return result.ptr;
}

// A whole number from 0 on that fits, and where it ends; nullptr if there is none.
inline const char* read_whole(const char* p, const char* end, std::int64_t* value) {
  const std::from_chars_result result = std::from_chars(p, end, *value);
  return result.ec == std::errc() && *value >= 0 ? result.ptr : nullptr;
}

}  // namespace
