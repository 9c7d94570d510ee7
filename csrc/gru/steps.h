// The loops over time: a chunk of sequences in one direction runs through all its frames on its own, so that threads
// never wait for each other between frames, and the packed weights stay in the cache of the core.
#pragma once

#include <algorithm>
#include <utility>

#include "common/dense.h"
#include "gru/cells.h"
#include "gru/gru.h"

namespace {

constexpr std::int64_t kSequences = 32;  // of a chunk
constexpr std::int64_t kUnits = kLanes;  // hidden units whose gates make a panel
constexpr std::int64_t kDepth = 256;     // of a panel that is multiplied at once, so that it stays in L1

inline std::int64_t unit_blocks(const skelkern::GruProblem& p) { return ceil_div(p.hidden, kUnits); }

inline std::int64_t frame_count(const skelkern::GruProblem& p) {
  return p.starts == nullptr ? p.n * p.steps : p.starts[p.steps];
}

inline std::int64_t sequence_blocks(const skelkern::GruProblem& p) { return ceil_div(p.n, kSequences); }

// The sequences [first, last) in one direction.
struct Chunk {
  const skelkern::GruProblem& p;
  std::int64_t direction, first, last;

  // Sorted sequences: the longest chunks come first.
  Chunk(const skelkern::GruProblem& problem, std::int64_t chunk) : p(problem), direction(chunk % problem.directions) {
    first = chunk / problem.directions * kSequences;
    last = std::min(problem.n, first + kSequences);
  }

  bool backwards() const { return direction == 1 && p.reverse; }

  // The frame at place `at` of the order in which this direction sees them.
  std::int64_t frame(std::int64_t at) const { return backwards() ? p.steps - 1 - at : at; }

  // How many of the chunk's sequences have the frame; those are its first ones. 0 outside [0, steps).
  std::int64_t active(std::int64_t frame) const {
    if (frame < 0 || frame >= p.steps) return 0;
    const std::int64_t with_frame = p.starts == nullptr ? p.n : p.starts[frame + 1] - p.starts[frame];
    return std::clamp<std::int64_t>(with_frame - first, 0, last - first);
  }

  // The row of the chunk's first sequence at a frame, and how far the next sequence's lies.
  std::int64_t row(std::int64_t frame) const {
    if (p.starts != nullptr) return p.starts[frame] + first;
    return p.batch_first ? first * p.steps + frame : frame * p.n + first;
  }
  std::int64_t row_step() const { return p.starts == nullptr && p.batch_first ? p.steps : 1; }

  // Of an array (directions, n, hidden): where the chunk's sequence i begins.
  std::int64_t state(std::int64_t i) const { return (direction * p.n + first + i) * p.hidden; }
};

// A product of few rows, part by part of its depth. Rows of A and of B are contiguous.
inline void product_by_parts(Product p, std::int64_t rows, std::int64_t columns) {
  const std::int64_t end = p.depth;
  p.apart = true;
  for (std::int64_t first = 0; first < end; first += kDepth) {
    p.depth = std::min(kDepth, end - first);
    product(p, rows, columns);
    p.a += kDepth;
    p.b += kDepth * p.b_row;
    p.accumulate = true;
  }
}

// Copies rows of p.hidden floats.
inline void copy_rows(const float* source, std::int64_t source_ld, std::int64_t rows, std::int64_t columns,
                      float* target, std::int64_t target_ld) {
  for (std::int64_t i = 0; i < rows; ++i) std::copy_n(source + i * source_ld, columns, target + i * target_ld);
}

// Floats of a panel of the forward loop: the recurrent weights of a block of units (hidden, gates, kUnits), then the
// biases (gates, kUnits).
template <class Cell>
inline std::int64_t panel_floats(const skelkern::GruProblem& p) {
  return (p.hidden + 1) * Cell::kGates * kUnits;
}

template <class Cell>
inline void pack_for_forward(const skelkern::GruProblem& p, std::int64_t direction, std::int64_t block, float* panel) {
  constexpr std::int64_t width = Cell::kGates * kUnits;
  const std::int64_t unit = block * kUnits, units = std::min(kUnits, p.hidden - unit);
  const skelkern::GruWeights& own = p.weights[direction];
  float* const biases = panel + p.hidden * width;
  std::fill_n(units < kUnits ? panel : biases, units < kUnits ? panel_floats<Cell>(p) : width, 0.0f);
  for (std::int64_t gate = 0; gate < Cell::kGates; ++gate)
    transpose(own.recurrent + (gate * p.hidden + unit) * p.hidden, p.hidden, units, p.hidden, panel + gate * kUnits,
              width);
  if (own.recurrent_bias != nullptr)
    copy_rows(own.recurrent_bias + unit, p.hidden, Cell::kGates, units, biases, kUnits);
}

// What a forward chunk works with.
struct ForwardState {
  std::int64_t ld;   // of h, next and c
  float *h, *next;   // (kSequences, ld), the hidden states before and after a frame
  float* c;          // (kSequences, ld), the cell states
  float* recurrent;  // (kSequences, gates, kUnits), the gates' recurrent parts of a block of units

  ForwardState(const skelkern::GruProblem& p, float* scratch) : ld(padded(p.hidden)) {
    h = scratch;
    next = h + kSequences * ld;
    c = next + kSequences * ld;
    recurrent = c + kSequences * ld;
  }
  static std::size_t floats(const skelkern::GruProblem& p) {
    return static_cast<std::size_t>(kSequences * (3 * padded(p.hidden) + skelkern::kLstmTrace * kUnits));
  }
};

// The gates of a block of units, [unit, unit + kUnits), of the chunk's first sequences at a frame.
template <class Cell>
inline void apply_gates(const Chunk& own, const ForwardState& s, const skelkern::GruResults& results,
                        const float* biases, std::int64_t frame, std::int64_t unit, std::int64_t rows) {
  constexpr std::int64_t kAhead = 6;  // rows of frames lie too far apart for the processor to foresee them
  const skelkern::GruProblem& p = own.p;
  const std::int64_t end = std::min(unit + kUnits, p.hidden), y_ld = p.directions * p.hidden;
  float* const trace = results.trace + own.direction * frame_count(p) * Cell::kTrace * p.hidden;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t row = own.row(frame) + i * own.row_step();
    if (i + kAhead < rows) {
      const std::int64_t later = row + kAhead * own.row_step();
      for (std::int64_t part = 0; part < Cell::kTrace; ++part)
        __builtin_prefetch(trace + (later * Cell::kTrace + part) * p.hidden + unit, 1);
      __builtin_prefetch(results.y + later * y_ld + own.direction * p.hidden + unit, 1);
    }
    for (std::int64_t j = unit; j < end; j += kLanes) {
      const int lanes = lanes_left(end, j);
      const float* const recurrent = s.recurrent + i * Cell::kGates * kUnits + (j - unit);
      const Vec h = Cell::forward(trace + row * Cell::kTrace * p.hidden + j, p.hidden, recurrent, biases + (j - unit),
                                  kUnits, load(s.h + i * s.ld + j), s.c + i * s.ld + j, lanes);
      store(s.next + i * s.ld + j, h);
      store_part(results.y + row * y_ld + own.direction * p.hidden + j, h, lanes);
    }
  }
}

// panels: (unit_blocks, panel_floats) of the chunk's direction.
template <class Cell>
inline void run_forward(const Chunk& own, const skelkern::GruResults& results, const float* panels, float* scratch) {
  constexpr std::int64_t width = Cell::kGates * kUnits;
  const skelkern::GruProblem& p = own.p;
  ForwardState s(p, scratch);
  std::fill_n(scratch, ForwardState::floats(p), 0.0f);
  std::int64_t before = 0;
  for (std::int64_t at = 0; at < p.steps; ++at) {
    const std::int64_t frame = own.frame(at), rows = own.active(frame), begun = rows - before;
    if (begun > 0) {
      copy_rows(p.h0 + own.state(before), p.hidden, begun, p.hidden, s.h + before * s.ld, s.ld);
      if (Cell::kHasCellState)
        copy_rows(p.c0 + own.state(before), p.hidden, begun, p.hidden, s.c + before * s.ld, s.ld);
    }
    for (std::int64_t block = 0; block < unit_blocks(p); ++block) {
      const float* const panel = panels + block * panel_floats<Cell>(p);
      product_by_parts({s.h, s.ld, 1, panel, width, s.recurrent, width, p.hidden, false}, rows, width);
      apply_gates<Cell>(own, s, results, panel + p.hidden * width, frame, block * kUnits, rows);
    }
    std::swap(s.h, s.next);
    before = std::min(rows, own.active(own.frame(at + 1)));
    if (before == rows) continue;
    copy_rows(s.h + before * s.ld, s.ld, rows - before, p.hidden, results.h + own.state(before), p.hidden);
    if (Cell::kHasCellState)
      copy_rows(s.c + before * s.ld, s.ld, rows - before, p.hidden, results.c + own.state(before), p.hidden);
  }
}

// What a backward chunk works with.
struct BackwardState {
  std::int64_t ld, step_ld;
  float* h;     // (kSequences, ld), gradients by the hidden states
  float* c;     // (kSequences, ld), by the cell states
  float* step;  // (kSequences, step_ld), by the gates' recurrent parts (gates, hidden) of a frame

  template <class Cell>
  static BackwardState make(const skelkern::GruProblem& p, float* scratch) {
    BackwardState s;
    s.ld = padded(round_up(p.hidden, kDensePanel));
    s.step_ld = padded(Cell::kGates * p.hidden);
    s.h = scratch;
    s.c = s.h + kSequences * s.ld;
    s.step = s.c + kSequences * s.ld;
    return s;
  }
  template <class Cell>
  static std::size_t floats(const skelkern::GruProblem& p) {
    const BackwardState s = make<Cell>(p, nullptr);
    return static_cast<std::size_t>(kSequences * (2 * s.ld + s.step_ld));
  }
};

// A frame of one sequence in backward. before: the frame at which its states before this one are, or -1 at its start.
template <class Cell>
inline void differentiate_gates(const Chunk& own, const BackwardState& s, const skelkern::GruResults& results,
                                const skelkern::GruIncoming& incoming, float* slopes, std::int64_t i,
                                std::int64_t frame, std::int64_t before) {
  const skelkern::GruProblem& p = own.p;
  const std::int64_t y_ld = p.directions * p.hidden, shown = own.direction * p.hidden;
  const std::int64_t row = own.row(frame) + i * own.row_step();
  const std::int64_t row_before = before < 0 ? 0 : own.row(before) + i * own.row_step();
  const std::int64_t trace_ld = Cell::kTrace * p.hidden, first = own.direction * frame_count(p);
  const float* const trace = results.trace + (first + row) * trace_ld;
  const float* const h = before < 0 ? p.h0 + own.state(i) : results.y + row_before * y_ld + shown;
  const float* const c = !Cell::kHasCellState ? h
                         : before < 0         ? p.c0 + own.state(i)
                                              : results.trace + (first + row_before + 1) * trace_ld - p.hidden;
  const float* const y_gradient = incoming.y + row * y_ld + shown;
  float* const slope = slopes + (first + row) * skelkern::kGruSlopes * p.hidden;
  for (std::int64_t j = 0; j < p.hidden; j += kLanes) {
    const int lanes = lanes_left(p.hidden, j);
    float* const h_gradient = s.h + i * s.ld + j;
    const Vec h_before = load_part(h + j, lanes), c_before = load_part(c + j, lanes);
    const Vec total = load(h_gradient) + load_part(y_gradient + j, lanes);
    store(h_gradient, Cell::backward(trace + j, p.hidden, h_before, c_before, total, s.c + i * s.ld + j, slope + j,
                                     s.step + i * s.step_ld + j, lanes));
    store_part(slope + (skelkern::kGruSlopes - 1) * p.hidden + j, h_before, lanes);
  }
}

// panels: recurrent weights of the chunk's direction, as `pack_columns` lays them out.
template <class Cell>
inline void run_backward(const Chunk& own, const skelkern::GruResults& results, const skelkern::GruIncoming& incoming,
                         const float* panels, float* slopes, const skelkern::GruGradients& gradients, float* scratch) {
  const skelkern::GruProblem& p = own.p;
  const BackwardState s = BackwardState::make<Cell>(p, scratch);
  const std::int64_t depth = Cell::kGates * p.hidden, columns = round_up(p.hidden, kDensePanel);
  std::fill_n(scratch, BackwardState::floats<Cell>(p), 0.0f);
  std::int64_t before = 0;
  for (std::int64_t at = p.steps - 1; at >= 0; --at) {
    const std::int64_t frame = own.frame(at), rows = own.active(frame), begun = rows - before;
    const std::int64_t rows_before = own.active(own.frame(at - 1));
    if (begun > 0) {
      if (incoming.h != nullptr)
        copy_rows(incoming.h + own.state(before), p.hidden, begun, p.hidden, s.h + before * s.ld, s.ld);
      if (incoming.c != nullptr)
        copy_rows(incoming.c + own.state(before), p.hidden, begun, p.hidden, s.c + before * s.ld, s.ld);
    }
    for (std::int64_t i = 0; i < rows; ++i)
      differentiate_gates<Cell>(own, s, results, incoming, slopes, i, frame, i < rows_before ? own.frame(at - 1) : -1);
    for (std::int64_t column = 0; column < columns; column += kDensePanel)
      product_by_parts({s.step, s.step_ld, 1, panels + column * depth, kDensePanel, s.h + column, s.ld, depth, true},
                       rows, kDensePanel);
    before = std::min(rows, rows_before);
    if (before == rows) continue;
    if (gradients.h0 != nullptr)
      copy_rows(s.h + before * s.ld, s.ld, rows - before, p.hidden, gradients.h0 + own.state(before), p.hidden);
    if (gradients.c0 != nullptr)
      copy_rows(s.c + before * s.ld, s.ld, rows - before, p.hidden, gradients.c0 + own.state(before), p.hidden);
  }
}

}  // namespace
