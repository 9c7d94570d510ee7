// What the checks of the compiled code share: arrays of exact size, so that a sanitizer sees every overrun, and runs at
// every SIMD level of this processor, compared with each other.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/levels.h"

constexpr int kThreads = 2;

template <class T>
class Array {
 public:
  explicit Array(std::int64_t size) : size_(size), data_(new T[static_cast<std::size_t>(size)]()) {}
  T* get() { return data_.get(); }
  std::int64_t size() const { return size_; }
  T& operator[](std::int64_t i) { return data_[static_cast<std::size_t>(i)]; }

 private:
  std::int64_t size_;
  std::unique_ptr<T[]> data_;
};

inline std::mt19937_64& random_bits() {
  static std::mt19937_64 generator(1);
  return generator;
}

inline std::int64_t random_below(std::int64_t bound) {
  return static_cast<std::int64_t>(random_bits()() % static_cast<std::uint64_t>(bound));
}

// Whole numbers from -8 to 8 divided by `scale`: sums of their products are exact, and ties frequent.
inline Array<float> random_floats(std::int64_t size, float scale = 4.0f) {
  Array<float> array(size);
  for (std::int64_t i = 0; i < size; ++i) array[i] = static_cast<float>(random_below(17) - 8) / scale;
  return array;
}

inline Array<bool> random_mask(std::int64_t size) {
  Array<bool> array(size);
  for (std::int64_t i = 0; i < size; ++i) array[i] = random_below(4) != 0;
  return array;
}

inline Array<std::int64_t> random_indices(std::int64_t size, std::int64_t bound) {
  Array<std::int64_t> array(size);
  for (std::int64_t i = 0; i < size; ++i) array[i] = random_below(bound);
  return array;
}

inline void require(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what.c_str());
  std::exit(1);
}

// What a run has written, to be compared between levels.
class Results {
 public:
  template <class T>
  void add(Array<T>& array) {
    for (std::int64_t i = 0; i < array.size(); ++i) values_.push_back(static_cast<double>(array[i]));
  }

  void require_like(const Results& other, const std::string& what) const {
    require(values_.size() == other.values_.size(), what + ": sizes differ");
    double difference = 0, size = 0, largest = -1;
    std::size_t worst = 0;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      if (std::isnan(values_[i]) && std::isnan(other.values_[i])) continue;
      const double error = std::abs(values_[i] - other.values_[i]);
      difference += error * error;
      size += std::pow(other.values_[i], 2);
      if (std::isnan(error) ? !std::isnan(largest) : error > largest) largest = error, worst = i;
    }
    require(difference <= 1e-8 * size, what + ": of " + std::to_string(values_.size()) + " results number " +
                                           std::to_string(worst) + " is " + std::to_string(values_[worst]) +
                                           ", at the lowest level " + std::to_string(other.values_[worst]));
  }

 private:
  std::vector<double> values_;
};

// The tables of an op at the levels of this processor, lowest first.
template <class Table>
std::vector<const Table*> supported(std::vector<const Table*> tables) {
  tables.resize(static_cast<std::size_t>(skelkern::cpu_level()) + 1);
  return tables;
}

#if defined(__x86_64__)
#define LEVELS_OF(name)                                               \
  supported<std::remove_const_t<decltype(skelkern::baseline::name)>>( \
      {&skelkern::baseline::name, &skelkern::avx2::name, &skelkern::avx512::name})
#else
#define LEVELS_OF(name) supported<std::remove_const_t<decltype(skelkern::baseline::name)>>({&skelkern::baseline::name})
#endif

// Runs at every level and compares what was written.
template <class Table>
void at_every_level(const std::string& what, const std::vector<const Table*>& tables,
                    const std::function<void(const Table&, Results&)>& run) {
  std::vector<Results> results(tables.size());
  for (std::size_t i = 0; i < tables.size(); ++i) {
    run(*tables[i], results[i]);
    results[i].require_like(results[0], what);
  }
}

// The tables of the levels and, behind them, one that runs the GPU's kernels emulated.
template <class Table>
std::vector<const Table*> and_emulated(std::vector<const Table*> tables, const Table& emulated) {
  tables.push_back(&emulated);
  return tables;
}

// Faults planted into kernels, each in a process of its own: returns how many were caught, which is all.
int check_planted_faults();

void check_losses();
void check_convolutions();
void check_sequences();
void check_clouds();
void check_clips();
void check_retrieval();

// Mutates well-formed text and parses it for so many seconds; returns how many inputs there were.
std::int64_t fuzz_ntu_skeleton(double seconds, std::uint64_t seed);
