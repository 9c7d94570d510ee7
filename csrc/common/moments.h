// Means and variances of channels: sums in float32 within a row, in double precision across rows.
#pragma once

#include "common/simd.h"

namespace {

inline float row_sum(const float* row, std::int64_t length) {
  Vec sum{};
  for (std::int64_t i = 0; i < length; i += kLanes) sum += load_part(row + i, lanes_left(length, i));
  return sum_lanes(sum);
}

inline float row_squares(const float* row, std::int64_t length, float mean) {
  Vec sum{};
  for (std::int64_t i = 0; i < length; i += kLanes) {
    const int lanes = lanes_left(length, i);
    const Vec centred = first_lanes(load_part(row + i, lanes) - mean, lanes);
    sum += centred * centred;
  }
  return sum_lanes(sum);
}

// Mean and sum of squared distances from it of what has been seen, and of more: the rule of Chan et al. (1979).
struct Moments {
  double count = 0.0, mean = 0.0, squares = 0.0;

  void add(double more_count, double more_mean, double more_squares) {
    const double total = count + more_count, distance = more_mean - mean;
    mean += distance * more_count / total;
    squares += more_squares + distance * distance * count * more_count / total;
    count = total;
  }

  void add_row(const float* row, std::int64_t length) {
    const float row_mean = row_sum(row, length) / static_cast<float>(length);
    add(static_cast<double>(length), row_mean, row_squares(row, length, row_mean));
  }
};

}  // namespace
