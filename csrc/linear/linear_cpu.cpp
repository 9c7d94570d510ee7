#include "common/dense.h"
#include "linear/linear.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

bool forward(const LinearProblem& p, float* y) {
  return multiply({p.x.data, p.x.row, p.x.column, p.weight.data, p.weight.column, p.weight.row, y, p.out, p.rows, p.out,
                   p.in, p.bias, p.relu},
                  p.threads);
}

// One chunk of rows: the gradient behind the ReLU goes to `masked` (nullptr without a ReLU), its sums over the rows are
// added to `sums` (out; nullptr where they are not wanted).
void mask_rows(const LinearProblem& p, std::int64_t first, std::int64_t last, const float* y, const float* y_gradient,
               float* masked, float* sums) {
  for (std::int64_t row = first; row < last; ++row)
    for (std::int64_t j = 0; j < p.out; j += kLanes) {
      const int lanes = lanes_left(p.out, j);
      const std::int64_t at = row * p.out + j;
      Vec value = load_part(y_gradient + at, lanes);
      if (masked != nullptr) {
        value = (Vec)((IntVec)value & ~(IntVec)(load_part(y + at, lanes) <= 0.0f));
        store_part(masked + at, value, lanes);
      }
      if (sums != nullptr) store_part(sums + j, load_part(sums + j, lanes) + value, lanes);
    }
}

bool mask_and_add_up(const LinearProblem& p, const float* y, const float* y_gradient, float* masked,
                     float* bias_gradient) {
  constexpr std::int64_t kRows = 256;
  const std::int64_t chunks = ceil_div(p.rows, kRows);
  float* partials = nullptr;  // (chunks, out)
  if (bias_gradient != nullptr) {
    partials = thread_scratch(Slot::workspace, static_cast<std::size_t>(chunks * p.out));
    if (partials == nullptr) return false;
  }
  const bool done = parallel_chunks(chunks, p.threads, 0, [&](std::int64_t chunk, float*) {
    float* const sums = partials == nullptr ? nullptr : partials + chunk * p.out;
    if (sums != nullptr) std::fill_n(sums, p.out, 0.0f);
    mask_rows(p, chunk * kRows, std::min(p.rows, (chunk + 1) * kRows), y, y_gradient, masked, sums);
  });
  if (!done || bias_gradient == nullptr) return done;
  std::fill_n(bias_gradient, p.out, 0.0f);
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk)
    for (std::int64_t j = 0; j < p.out; ++j) bias_gradient[j] += partials[chunk * p.out + j];
  return true;
}

bool backward(const LinearProblem& p, const float* y, const float* y_gradient, float* masked,
              const LinearGradients& gradients) {
  if ((p.relu || gradients.bias != nullptr) &&
      !mask_and_add_up(p, y, y_gradient, p.relu ? masked : nullptr, gradients.bias))
    return false;
  const float* const dy = p.relu ? masked : y_gradient;
  if (gradients.x != nullptr && !multiply({dy, p.out, 1, p.weight.data, p.weight.row, p.weight.column, gradients.x,
                                           p.in, p.rows, p.in, p.out, nullptr, false},
                                          p.threads))
    return false;
  return gradients.weight == nullptr || multiply({dy, 1, p.out, p.x.data, p.x.row, p.x.column, gradients.weight, p.in,
                                                  p.out, p.in, p.rows, nullptr, false},
                                                 p.threads);
}

}  // namespace

extern const Linear linear;
const Linear linear{forward, backward};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
