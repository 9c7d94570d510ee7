// What a GRU and an LSTM do with their gates: one vector of hidden units of one frame at a time.
#pragma once

#include "common/exponential.h"

namespace {

SKELKERN_INLINE Vec magnitude(Vec x) { return (Vec)((IntVec)x & 0x7fffffff); }

// 1 / (1 + e^-x), by the exponential of a negative number, which never overflows.
SKELKERN_INLINE Vec logistic(Vec x) {
  const Vec power = exponential(-magnitude(x));
  return (x < 0.0f ? power : splat(1.0f)) / (1.0f + power);
}

// Near zero by the polynomial of the Cephes library: the quotient would lose the digits of a small result.
SKELKERN_INLINE Vec hyperbolic_tangent(Vec x) {
  const Vec size = magnitude(x), square = x * x;
  const Vec power = exponential(-2.0f * size);
  const Vec quotient = (1.0f - power) / (1.0f + power);
  Vec series = splat(-5.70498872745e-3f);
  series = series * square + splat(2.06390887954e-2f);
  series = series * square + splat(-5.37397155531e-2f);
  series = series * square + splat(1.33314422036e-1f);
  series = series * square + splat(-3.33332819422e-1f);
  const IntVec sign = (IntVec)x & ~0x7fffffff;
  return size < 0.625f ? x + x * square * series : (Vec)((IntVec)quotient | sign);
}

// Both cells have
//   forward(trace, hidden, recurrent, biases, stride, h, c, lanes) -> the new h
//     trace: a frame's values of these units, `hidden` apart: the gates' input parts come in, what backward needs goes
//     out; recurrent, biases: the gates' recurrent parts, `stride` apart; h: the state before; c: an LSTM's cell state,
//     updated.
//   backward(trace, hidden, h, c, h_gradient, c_gradient, slopes, step, lanes) -> the part of the gradient by the state
//     before that does not go through the gates
//     c: the cell state before; slopes, step: gradients before the gates, `hidden` apart, for the products over all
//     frames and of their recurrent parts for this step's.

struct GruCell {
  static constexpr int kGates = 3;
  static constexpr std::int64_t kTrace = skelkern::kGruTrace;
  static constexpr bool kHasCellState = false;

  static SKELKERN_INLINE Vec forward(float* trace, std::int64_t hidden, const float* recurrent, const float* biases,
                                     std::int64_t stride, Vec h, float*, int lanes) {
    const Vec reset = logistic(load_part(trace, lanes) + load(recurrent) + load(biases));
    const Vec update = logistic(load_part(trace + hidden, lanes) + load(recurrent + stride) + load(biases + stride));
    const Vec inner = load(recurrent + 2 * stride) + load(biases + 2 * stride);
    const Vec fresh = hyperbolic_tangent(load_part(trace + 2 * hidden, lanes) + reset * inner);
    store_part(trace, reset, lanes);
    store_part(trace + hidden, update, lanes);
    store_part(trace + 2 * hidden, fresh, lanes);
    store_part(trace + 3 * hidden, inner, lanes);
    return fresh + update * (h - fresh);
  }

  static SKELKERN_INLINE Vec backward(const float* trace, std::int64_t hidden, Vec h, Vec, Vec h_gradient, float*,
                                      float* slopes, float* step, int lanes) {
    const Vec reset = load_part(trace, lanes), update = load_part(trace + hidden, lanes);
    const Vec fresh = load_part(trace + 2 * hidden, lanes), inner = load_part(trace + 3 * hidden, lanes);
    const Vec of_fresh = h_gradient * (1.0f - update) * (1.0f - fresh * fresh);
    const Vec of_update = h_gradient * (h - fresh) * update * (1.0f - update);
    const Vec of_inner = of_fresh * reset;
    const Vec of_reset = of_fresh * inner * reset * (1.0f - reset);
    store_part(slopes, of_reset, lanes);
    store_part(slopes + hidden, of_update, lanes);
    store_part(slopes + 2 * hidden, of_fresh, lanes);
    store_part(slopes + 3 * hidden, of_inner, lanes);
    store_part(step, of_reset, lanes);
    store_part(step + hidden, of_update, lanes);
    store_part(step + 2 * hidden, of_inner, lanes);
    return h_gradient * update;
  }
};

struct LstmCell {
  static constexpr int kGates = 4;
  static constexpr std::int64_t kTrace = skelkern::kLstmTrace;
  static constexpr bool kHasCellState = true;

  static SKELKERN_INLINE Vec forward(float* trace, std::int64_t hidden, const float* recurrent, const float* biases,
                                     std::int64_t stride, Vec, float* c, int lanes) {
    const Vec input = logistic(load_part(trace, lanes) + load(recurrent) + load(biases));
    const Vec forget = logistic(load_part(trace + hidden, lanes) + load(recurrent + stride) + load(biases + stride));
    const Vec fresh = hyperbolic_tangent(load_part(trace + 2 * hidden, lanes) + load(recurrent + 2 * stride) +
                                         load(biases + 2 * stride));
    const Vec output =
        logistic(load_part(trace + 3 * hidden, lanes) + load(recurrent + 3 * stride) + load(biases + 3 * stride));
    const Vec state = forget * load(c) + input * fresh;
    store(c, state);
    store_part(trace, input, lanes);
    store_part(trace + hidden, forget, lanes);
    store_part(trace + 2 * hidden, fresh, lanes);
    store_part(trace + 3 * hidden, output, lanes);
    store_part(trace + 4 * hidden, state, lanes);
    return output * hyperbolic_tangent(state);
  }

  static SKELKERN_INLINE Vec backward(const float* trace, std::int64_t hidden, Vec, Vec c, Vec h_gradient,
                                      float* c_gradient, float* slopes, float* step, int lanes) {
    const Vec input = load_part(trace, lanes), forget = load_part(trace + hidden, lanes);
    const Vec fresh = load_part(trace + 2 * hidden, lanes), output = load_part(trace + 3 * hidden, lanes);
    const Vec shown = hyperbolic_tangent(load_part(trace + 4 * hidden, lanes));
    const Vec of_state = load(c_gradient) + h_gradient * output * (1.0f - shown * shown);
    store(c_gradient, of_state * forget);
    const Vec of_gates[kGates] = {of_state * fresh * input * (1.0f - input), of_state * c * forget * (1.0f - forget),
                                  of_state * input * (1.0f - fresh * fresh),
                                  h_gradient * shown * output * (1.0f - output)};
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) {
      store_part(slopes + gate * hidden, of_gates[gate], lanes);
      store_part(step + gate * hidden, of_gates[gate], lanes);
    }
    return Vec{};
  }
};

}  // namespace
