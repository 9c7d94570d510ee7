// One layer of a GRU or an LSTM in one or two directions, and its gradients.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

// Of one direction; gates in torch's order: reset, update, new of a GRU, input, forget, cell, output of an LSTM.
struct GruWeights {
  const float* input;           // (gates * hidden, in)
  const float* recurrent;       // (gates * hidden, hidden)
  const float* input_bias;      // optional (gates * hidden), together with recurrent_bias
  const float* recurrent_bias;  // optional (gates * hidden)
};

// A frame is a row of x and of y. Frame t of sequence i is row starts[t] + i, where there are starts; else all
// sequences have `steps` frames, and it is row i * steps + t (batch_first) or t * n + i. With starts, sequences are
// sorted: starts[t + 1] - starts[t], how many sequences have a frame t, never increases, and is at most n.
struct GruProblem {
  const float* x;              // (frames, in), contiguous
  const std::int64_t* starts;  // optional (steps + 1)
  const float* h0;             // (directions, n, hidden)
  const float* c0;             // (directions, n, hidden) of an LSTM, nullptr for a GRU
  GruWeights weights[2];       // of each direction
  std::int64_t n, steps, in, hidden;
  std::int64_t directions;  // 1 or 2
  bool batch_first;
  bool reverse;  // the second direction runs through every sequence from its last frame to its first
  int threads;
};

// Values of `trace` per hidden unit and frame: activations of the gates, then of a GRU the recurrent part of the new
// gate, of an LSTM the cell's state.
constexpr std::int64_t kGruTrace = 4, kLstmTrace = 5;
// Values per hidden unit and frame that backward works with: gradients before the gates (of a GRU's new gate that of
// its input part, then that of its recurrent part), then the hidden state before the frame.
constexpr std::int64_t kGruSlopes = 5;

struct GruResults {
  float* y;      // (frames, directions * hidden)
  float* h;      // (directions, n, hidden), after each sequence's last frame
  float* c;      // the same, of an LSTM only
  float* trace;  // (directions, frames, kGruTrace or kLstmTrace, hidden)
};

// Shapes as in GruResults.
struct GruIncoming {
  const float* y;
  const float* h;  // optional
  const float* c;  // optional
};

// nullptr where no gradient is wanted.
struct GruGradients {
  float* x;
  float* h0;
  float* c0;
  struct {
    float *input, *recurrent, *input_bias, *recurrent_bias;
  } weights[2];
};

// Both functions return false when out of memory, having written nothing of use. Rows of no frame stay as they are.
struct Gru {
  bool (*forward)(const GruProblem& problem, const GruResults& results);
  // results: forward's. slopes: (directions, frames, kGruSlopes, hidden) of any content.
  bool (*backward)(const GruProblem& problem, const GruResults& results, const GruIncoming& incoming, float* slopes,
                   const GruGradients& gradients);
};

SKELKERN_EVERY_LEVEL(Gru, gru)

}  // namespace skelkern
