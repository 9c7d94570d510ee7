#include "gru/gru.h"
#include "gru/steps.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

// Input parts of the gates of all frames of a direction, into its trace.
template <class Cell>
bool multiply_inputs(const GruProblem& p, std::int64_t direction, const GruResults& results) {
  const GruWeights& own = p.weights[direction];
  const std::int64_t frames = frame_count(p), trace_ld = Cell::kTrace * p.hidden;
  float* const trace = results.trace + direction * frames * trace_ld;
  return multiply(
      {p.x, p.in, 1, own.input, 1, p.in, trace, trace_ld, frames, Cell::kGates * p.hidden, p.in, own.input_bias, false},
      p.threads);
}

template <class Cell>
bool forward_of(const GruProblem& p, const GruResults& results) {
  for (std::int64_t direction = 0; direction < p.directions; ++direction)
    if (!multiply_inputs<Cell>(p, direction, results)) return false;
  const std::int64_t blocks = unit_blocks(p), panel = panel_floats<Cell>(p);
  float* const panels = thread_scratch(Slot::workspace, static_cast<std::size_t>(p.directions * blocks * panel));
  if (panels == nullptr) return false;
  if (!parallel_chunks(p.directions * blocks, p.threads, 0, [&](std::int64_t chunk, float*) {
        pack_for_forward<Cell>(p, chunk / blocks, chunk % blocks, panels + chunk * panel);
      }))
    return false;
  return parallel_chunks(p.directions * sequence_blocks(p), p.threads, ForwardState::floats(p),
                         [&](std::int64_t chunk, float* scratch) {
                           const Chunk own(p, chunk);
                           run_forward<Cell>(own, results, panels + own.direction * blocks * panel, scratch);
                         });
}

// Gradients before the gates of all frames, and those of the first states.
template <class Cell>
bool differentiate_steps(const GruProblem& p, const GruResults& results, const GruIncoming& incoming, float* slopes,
                         const GruGradients& gradients) {
  const std::int64_t blocks = ceil_div(p.hidden, kDensePanel), depth = Cell::kGates * p.hidden;
  const std::int64_t panel = depth * kDensePanel;
  float* const panels = thread_scratch(Slot::workspace, static_cast<std::size_t>(p.directions * blocks * panel));
  if (panels == nullptr) return false;
  if (!parallel_chunks(p.directions * blocks, p.threads, 0, [&](std::int64_t chunk, float*) {
        const std::int64_t column = chunk % blocks * kDensePanel;
        pack_columns(p.weights[chunk / blocks].recurrent + column, p.hidden, 1, depth,
                     std::min(kDensePanel, p.hidden - column), panels + chunk * panel);
      }))
    return false;
  return parallel_chunks(p.directions * sequence_blocks(p), p.threads, BackwardState::floats<Cell>(p),
                         [&](std::int64_t chunk, float* scratch) {
                           const Chunk own(p, chunk);
                           run_backward<Cell>(own, results, incoming, panels + own.direction * blocks * panel, slopes,
                                              gradients, scratch);
                         });
}

// totals (columns) = the sums over rows of values (rows, columns), taken by blocks of rows, so that long sums lose
// nothing.
bool add_up_rows(const float* values, std::int64_t ld, std::int64_t rows, std::int64_t columns, int threads,
                 float* totals) {
  constexpr std::int64_t kColumns = 64, kRows = 128;
  return parallel_chunks(ceil_div(columns, kColumns), threads, 0, [&](std::int64_t chunk, float*) {
    const std::int64_t first = chunk * kColumns, width = std::min(kColumns, columns - first);
    std::fill_n(totals + first, width, 0.0f);
    for (std::int64_t row = 0; row < rows; row += kRows) {
      float sums[kColumns] = {};
      for (std::int64_t i = row; i < std::min(rows, row + kRows); ++i)
        for (std::int64_t j = 0; j < width; ++j) sums[j] += values[i * ld + first + j];
      for (std::int64_t j = 0; j < width; ++j) totals[first + j] += sums[j];
    }
  });
}

// Gradients of one direction's weights and biases: products over all frames.
template <class Cell>
bool differentiate_weights(const GruProblem& p, std::int64_t direction, const float* slopes,
                           const GruGradients& gradients) {
  const auto& wanted = gradients.weights[direction];
  const std::int64_t frames = frame_count(p), ld = kGruSlopes * p.hidden, gates = Cell::kGates * p.hidden;
  const float* const own = slopes + direction * frames * ld;
  const float* const h = own + (kGruSlopes - 1) * p.hidden;
  // a GRU's new gate has a recurrent part of its own, behind the other gradients
  const std::int64_t shared = Cell::kHasCellState ? gates : gates - p.hidden;
  const float* const rest = own + gates;
  if (wanted.input != nullptr &&
      !multiply({own, 1, ld, p.x, p.in, 1, wanted.input, p.in, gates, p.in, frames, nullptr, false}, p.threads))
    return false;
  if (wanted.recurrent != nullptr) {
    float* const target = wanted.recurrent;
    if (!multiply({own, 1, ld, h, ld, 1, target, p.hidden, shared, p.hidden, frames, nullptr, false}, p.threads))
      return false;
    if (shared < gates && !multiply({rest, 1, ld, h, ld, 1, target + shared * p.hidden, p.hidden, p.hidden, p.hidden,
                                     frames, nullptr, false},
                                    p.threads))
      return false;
  }
  if (wanted.input_bias != nullptr && !add_up_rows(own, ld, frames, gates, p.threads, wanted.input_bias)) return false;
  if (wanted.recurrent_bias == nullptr) return true;
  return add_up_rows(own, ld, frames, shared, p.threads, wanted.recurrent_bias) &&
         (shared == gates || add_up_rows(rest, ld, frames, p.hidden, p.threads, wanted.recurrent_bias + shared));
}

template <class Cell>
bool backward_of(const GruProblem& p, const GruResults& results, const GruIncoming& incoming, float* slopes,
                 const GruGradients& gradients) {
  if (!differentiate_steps<Cell>(p, results, incoming, slopes, gradients)) return false;
  const std::int64_t frames = frame_count(p), ld = kGruSlopes * p.hidden;
  for (std::int64_t direction = 0; direction < p.directions; ++direction) {
    if (!differentiate_weights<Cell>(p, direction, slopes, gradients)) return false;
    if (gradients.x != nullptr &&
        !multiply({slopes + direction * frames * ld, ld, 1, p.weights[direction].input, p.in, 1, gradients.x, p.in,
                   frames, p.in, Cell::kGates * p.hidden, nullptr, false, direction > 0},
                  p.threads))
      return false;
  }
  return true;
}

bool forward(const GruProblem& p, const GruResults& results) {
  return p.c0 == nullptr ? forward_of<GruCell>(p, results) : forward_of<LstmCell>(p, results);
}

bool backward(const GruProblem& p, const GruResults& results, const GruIncoming& incoming, float* slopes,
              const GruGradients& gradients) {
  return p.c0 == nullptr ? backward_of<GruCell>(p, results, incoming, slopes, gradients)
                         : backward_of<LstmCell>(p, results, incoming, slopes, gradients);
}

}  // namespace

extern const Gru gru;
const Gru gru{forward, backward};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern
