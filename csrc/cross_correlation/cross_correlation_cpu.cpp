// Embeddings are kept feature-major, (d, n): every product then reads its operands as they lie, and batch
// statistics, gradients and the backward of the standardisation are loops over one contiguous row.
#include "cross_correlation/cross_correlation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/parallel.h"
#include "common/tile.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kFeatures = 64;        // features of one chunk: a chunk of both inputs stays in L2
constexpr std::int64_t kRowsOfProduct = 64;   // rows of a Gram or correlation matrix computed by one chunk
constexpr std::int64_t kDepth = 512;          // features multiplied before the next panel: a panel stays in L2
constexpr std::int64_t kGroupDepth = 2048;    // features of one partial sum, merged in order

// All arrays of one call; every pointer is into the workspace. Leading dimensions are padded with zeros.
struct Arrays {
  std::int64_t ld;      // leading dimension of (d, n) and (n, n) arrays
  std::int64_t ld_d;    // leading dimension of (d, d) and (n, d) arrays
  bool gram;            // n < d: products of samples instead of features
  std::int64_t groups;  // partial Gram sums
  float* z[2];          // (d, ld) standardised embeddings
  float* inverse_std[2];  // (d)
  float* diagonal;      // (d) C_ii
  double* squares;      // one partial sum of squares of C per panel of kRowsOfProduct features; unused with gram
  float* product[2];    // gram: (groups, n, ld) partial z z^T; else [0]: (d, ld_d) C, [1]: (n, ld_d) z2 row-major
};

std::int64_t panels(std::int64_t rows) { return (rows + kRowsOfProduct - 1) / kRowsOfProduct; }

std::int64_t array_floats(const CrossCorrelationProblem& p, Arrays& a) {
  a.gram = p.n < p.d;
  a.ld = padded(p.n);
  a.ld_d = padded(p.d);
  a.groups = (p.d + kGroupDepth - 1) / kGroupDepth;
  const std::int64_t products = a.gram ? 2 * a.groups * p.n * a.ld : (p.d + p.n) * a.ld_d;
  return 2 * p.d * a.ld + products + 2 * panels(p.d) + 3 * p.d;
}

bool allocate(const CrossCorrelationProblem& p, Arrays& a) {
  float* next = thread_scratch(Slot::workspace, static_cast<std::size_t>(array_floats(p, a)));
  if (next == nullptr) return false;
  const auto take = [&next](std::int64_t floats) { return std::exchange(next, next + floats); };
  for (int side = 0; side < 2; ++side) a.z[side] = take(p.d * a.ld);
  a.product[0] = take(a.gram ? a.groups * p.n * a.ld : p.d * a.ld_d);
  a.product[1] = take(a.gram ? a.groups * p.n * a.ld : p.n * a.ld_d);
  a.squares = reinterpret_cast<double*>(take(2 * panels(p.d)));
  for (int side = 0; side < 2; ++side) a.inverse_std[side] = take(p.d);
  a.diagonal = take(p.d);
  return true;
}

// Standardises one feature in place: row (n), zeros up to ld. Returns 1 / standard deviation.
float standardise_row(float* row, std::int64_t n, std::int64_t ld, float eps) {
  Vec sum{};
  for (std::int64_t i = 0; i < n; i += kLanes) sum += first_lanes(load(row + i), n - i);
  const float mean = sum_lanes(sum) / static_cast<float>(n);
  Vec squares{};
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const Vec centred = first_lanes(load(row + i) - mean, n - i);
    squares += centred * centred;
    store(row + i, centred);
  }
  const float inverse_std = 1.0f / std::sqrt(sum_lanes(squares) / static_cast<float>(n) + eps);
  for (std::int64_t i = 0; i < n; i += kLanes) store(row + i, load(row + i) * inverse_std);
  std::fill(row + round_up(n, kLanes), row + ld, 0.0f);
  return inverse_std;
}

float dot(const float* a, const float* b, std::int64_t n) {
  Vec sum{};
  for (std::int64_t i = 0; i < n; i += kLanes) sum += load(a + i) * load(b + i);
  return sum_lanes(sum);
}

// Fills z, inverse_std and diagonal for features [first, last).
void standardise(const CrossCorrelationProblem& p, const Arrays& a, std::int64_t first, std::int64_t last) {
  const float* sources[2] = {p.z1, p.z2};
  for (int side = 0; side < 2; ++side) {
    transpose(sources[side] + first, p.d, p.n, last - first, a.z[side] + first * a.ld, a.ld);
    for (std::int64_t f = first; f < last; ++f)
      a.inverse_std[side][f] = standardise_row(a.z[side] + f * a.ld, p.n, a.ld, p.eps);
  }
  for (std::int64_t f = first; f < last; ++f)
    a.diagonal[f] = dot(a.z[0] + f * a.ld, a.z[1] + f * a.ld, a.ld) / static_cast<float>(p.n);
}

// Rows [first, last) of the partial Gram matrix of one group, from column `first` on: the rest is its mirror image.
void gram_rows(const CrossCorrelationProblem& p, const Arrays& a, int side, std::int64_t group, std::int64_t first,
               std::int64_t last) {
  float* c = a.product[side] + (group * p.n + first) * a.ld + first;
  const std::int64_t end = std::min(p.d, (group + 1) * kGroupDepth);
  for (std::int64_t f = group * kGroupDepth; f < end; f += kDepth) {
    const float* panel = a.z[side] + f * a.ld + first;
    const Product product_of_panel{panel, 1,    a.ld, panel, a.ld, c, a.ld, std::min(kDepth, end - f),
                                   f > group * kGroupDepth};
    product(product_of_panel, last - first, round_up(p.n - first, kLanes));
  }
}

// Adds the groups' partial sums in order into group 0 and mirrors its upper triangle.
void merge_groups(const CrossCorrelationProblem& p, const Arrays& a, float* gram) {
  for (std::int64_t row = 0; row < p.n; ++row) {
    const std::int64_t start = row / kRowsOfProduct * kRowsOfProduct;
    for (std::int64_t group = 1; group < a.groups; ++group)
      for (std::int64_t j = start; j < p.n; ++j) gram[row * a.ld + j] += gram[(group * p.n + row) * a.ld + j];
  }
  for (std::int64_t row = 0; row < p.n; row += kRowsOfProduct) {
    const std::int64_t rows = std::min(kRowsOfProduct, p.n - row), right = row + rows;
    if (right < p.n)
      transpose(gram + row * a.ld + right, a.ld, rows, p.n - right, gram + right * a.ld + row, a.ld);
  }
  for (std::int64_t row = 0; row < p.n; ++row) std::fill(gram + row * a.ld + p.n, gram + (row + 1) * a.ld, 0.0f);
}

// Both Gram matrices, whole, into group 0 of product[0] and product[1].
bool gram_products(const CrossCorrelationProblem& p, const Arrays& a) {
  const std::int64_t count = panels(p.n);
  const bool multiplied = parallel_chunks(2 * a.groups * count, p.threads, 0, [&](std::int64_t chunk, float*) {
    const std::int64_t first = chunk % count * kRowsOfProduct, group = chunk / count % a.groups;
    const int side = static_cast<int>(chunk / count / a.groups);
    gram_rows(p, a, side, group, first, std::min(p.n, first + kRowsOfProduct));
  });
  return multiplied && parallel_chunks(2, p.threads, 0, [&](std::int64_t side, float*) {
    merge_groups(p, a, a.product[side]);
  });
}

// n C = z1 z2^T into product[0], scaled to the gradient of the sum of squares; the sum itself into squares.
bool feature_products(const CrossCorrelationProblem& p, const Arrays& a) {
  for (std::int64_t i = 0; i < p.n; ++i) std::fill_n(a.product[1] + i * a.ld_d, a.ld_d, 0.0f);
  transpose(a.z[1], a.ld, p.d, p.n, a.product[1], a.ld_d);
  const double inverse_n = 1.0 / static_cast<double>(p.n);
  const float scale = static_cast<float>(2.0 * p.off_diagonal_weight * inverse_n * inverse_n);
  return parallel_chunks(panels(p.d), p.threads, 0, [&](std::int64_t panel, float*) {
    const std::int64_t first = panel * kRowsOfProduct, last = std::min(p.d, first + kRowsOfProduct);
    float* c = a.product[0] + first * a.ld_d;
    product({a.z[0] + first * a.ld, a.ld, 1, a.product[1], a.ld_d, c, a.ld_d, p.n, false}, last - first, a.ld_d);
    a.squares[panel] = 0.0;
    for (std::int64_t f = first; f < last; ++f, c += a.ld_d) {
      a.squares[panel] += dot(c, c, a.ld_d) * inverse_n * inverse_n;
      for (std::int64_t j = 0; j < a.ld_d; j += kLanes) store(c + j, load(c + j) * scale);
    }
  });
}

// Summed in double: the sum of squares of C grows with d * d / n, its interesting part does not.
double sum_of_squares(const CrossCorrelationProblem& p, const Arrays& a) {
  double sum = 0.0;
  if (!a.gram) {
    for (std::int64_t panel = 0; panel < panels(p.d); ++panel) sum += a.squares[panel];
    return sum;
  }
  for (std::int64_t row = 0; row < p.n; ++row) sum += dot(a.product[0] + row * a.ld, a.product[1] + row * a.ld, a.ld);
  return sum / static_cast<double>(p.n) / static_cast<double>(p.n);
}

double total_loss(const CrossCorrelationProblem& p, const Arrays& a) {
  double on_diagonal = 0.0, diagonal_squares = 0.0;
  for (std::int64_t f = 0; f < p.d; ++f) {
    const double c = a.diagonal[f];
    on_diagonal += (1.0 - c) * (1.0 - c);
    diagonal_squares += c * c;
  }
  return on_diagonal + p.off_diagonal_weight * (sum_of_squares(p, a) - diagonal_squares);
}

// gradient (last - first, ld): gradient of the sum of squares by the standardised features of one side.
void squares_gradient(const CrossCorrelationProblem& p, const Arrays& a, int side, std::int64_t first,
                      std::int64_t last, float* gradient) {
  const float* own = a.z[side] + first * a.ld;
  const float* other = a.z[1 - side];
  if (a.gram)
    return product({own, a.ld, 1, a.product[1 - side], a.ld, gradient, a.ld, p.n, false}, last - first, a.ld);
  const std::int64_t row = side == 0 ? a.ld_d : 1, depth = side == 0 ? 1 : a.ld_d;
  product({a.product[0] + first * row, row, depth, other, a.ld, gradient, a.ld, p.d, false}, last - first, a.ld);
}

// Adds the diagonal's gradient to `gradient` (ld) and takes it back through the standardisation of feature f, in place.
void finish_row(const CrossCorrelationProblem& p, const Arrays& a, int side, std::int64_t f, float* gradient) {
  const float inverse_n = 1.0f / static_cast<float>(p.n), c = a.diagonal[f], weight = p.off_diagonal_weight;
  const float scale = a.gram ? 2.0f * weight * inverse_n * inverse_n : 1.0f;
  const float diagonal = -2.0f * inverse_n * ((1.0f - c) + weight * c);
  const float* own = a.z[side] + f * a.ld;
  const float* other = a.z[1 - side] + f * a.ld;
  Vec sum{}, projection{};
  for (std::int64_t i = 0; i < p.n; i += kLanes) {
    const Vec g = load(gradient + i) * scale + load(other + i) * diagonal;
    store(gradient + i, g);
    sum += g;  // the padding is 0 in gradient and other
    projection += g * load(own + i);
  }
  const float mean = sum_lanes(sum) * inverse_n, along_own = sum_lanes(projection) * inverse_n;
  const float inverse_std = a.inverse_std[side][f];
  for (std::int64_t i = 0; i < p.n; i += kLanes)
    store(gradient + i, (load(gradient + i) - mean - load(own + i) * along_own) * inverse_std);
}

bool gradients(const CrossCorrelationProblem& p, const Arrays& a) {
  float* targets[2] = {p.gradient1, p.gradient2};
  const std::int64_t chunks = (p.d + kFeatures - 1) / kFeatures;
  return parallel_chunks(2 * chunks, p.threads, kFeatures * a.ld, [&](std::int64_t chunk, float* gradient) {
    const int side = static_cast<int>(chunk / chunks);
    const std::int64_t first = chunk % chunks * kFeatures, last = std::min(p.d, first + kFeatures);
    squares_gradient(p, a, side, first, last, gradient);
    for (std::int64_t f = first; f < last; ++f) finish_row(p, a, side, f, gradient + (f - first) * a.ld);
    transpose(gradient, a.ld, last - first, p.n, targets[side] + first, p.d);
  });
}

bool run(const CrossCorrelationProblem& p) {
  Arrays a{};
  if (!allocate(p, a)) return false;
  const std::int64_t chunks = (p.d + kFeatures - 1) / kFeatures;
  const bool multiplied = parallel_chunks(chunks, p.threads, 0, [&](std::int64_t chunk, float*) {
    standardise(p, a, chunk * kFeatures, std::min(p.d, (chunk + 1) * kFeatures));
  }) && (a.gram ? gram_products(p, a) : feature_products(p, a));
  if (!multiplied) return false;
  *p.loss = total_loss(p, a);
  return p.gradient1 == nullptr || gradients(p, a);
}

}  // namespace

extern const CrossCorrelation cross_correlation;
const CrossCorrelation cross_correlation{run};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
