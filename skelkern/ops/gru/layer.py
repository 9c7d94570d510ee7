"""The kernel of a layer: registration and gradients."""

from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.memory import empty_output
from skelkern.ops.gru.reference import Layer, Weights
from skelkern.registration import address, addresses, float32, not_twice_differentiable, register

GRU_TRACE, LSTM_TRACE, SLOPES = 4, 5, 5  # values per hidden unit and frame, see csrc/gru/gru.h


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: Weights,
    starts: Tensor | None,
    batch_first: bool,
    reverse: bool,
) -> Layer:
    """`reference.layer` on the kernel."""
    both = (*weights, *(None,) * 4)[:8]
    y, h, c, _ = gru_cpu(x, h0, c0, *both, starts, batch_first, reverse)
    return y, h, None if c0 is None else c


def _sizes(x: Tensor, h0: Tensor, starts: Tensor | None, batch_first: bool) -> tuple[int, ...]:
    """(n, steps, in, hidden, directions) as the kernel takes them."""
    directions, n, hidden = h0.shape
    steps = x.shape[1 if batch_first else 0] if starts is None else starts.shape[0] - 1
    return n, steps, x.shape[-1], hidden, directions


def _check_starts(starts: Tensor, n: int, rows: int) -> None:
    """What the kernel reads by: sizes of batches that add up to no more rows than there are."""
    sizes = starts.diff()
    fits = (
        sizes[0] == n and starts[0] == 0 and starts[-1] <= rows and sizes.min() >= 0 and bool((sizes.diff() <= 0).all())
    )
    if not fits:
        raise ValueError(
            f"batch_sizes: expected at most {rows} rows, from {n} a frame downwards, found {sizes.tolist()}"
        )


def _trace_shape(x: Tensor, h0: Tensor, c0: Tensor | None) -> tuple[int, ...]:
    directions, _, hidden = h0.shape
    return directions, x.shape[:-1].numel(), GRU_TRACE if c0 is None else LSTM_TRACE, hidden


def _run_forward(x: Tensor, h0: Tensor, c0: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *weights, starts, batch_first, reverse = rest
    sizes = _sizes(x, h0, starts, batch_first)
    inputs, kept = [float32(tensor) for tensor in (x, h0, c0)], [float32(weight) for weight in weights]
    y, h = empty_output(*x.shape[:-1], sizes[3] * sizes[4]), torch.empty(h0.shape)
    c, trace = torch.empty((0,) if c0 is None else c0.shape), empty_output(*_trace_shape(x, h0, c0))
    if starts is not None:
        _check_starts(starts, sizes[0], x.shape[0])
        y[int(starts[-1]) :] = 0
    arrays, order = (address(inputs[0]), address(starts), *addresses(*inputs[1:])), (batch_first, reverse)
    results = addresses(y, h, c if c0 is not None else None, trace)
    _cpu.gru_forward(arrays, addresses(*kept), sizes, order, torch.get_num_threads(), results)
    return y.to(x.dtype), h.to(x.dtype), c.to(x.dtype), trace


def _fake_forward(x: Tensor, h0: Tensor, c0: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    directions, _, hidden = h0.shape
    y, h = x.new_empty(*x.shape[:-1], directions * hidden), x.new_empty(h0.shape)
    c = x.new_empty((0,) if c0 is None else c0.shape)
    return y, h, c, x.new_empty(_trace_shape(x, h0, c0), dtype=torch.float32)


def _run_backward(
    y_gradient: Tensor | None,
    h_gradient: Tensor | None,
    c_gradient: Tensor | None,
    y: Tensor,
    trace: Tensor,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    *rest: Any,
) -> list[Tensor]:
    *weights, starts, batch_first, reverse, wanted = rest
    sizes, arguments = _sizes(x, h0, starts, batch_first), (x, h0, c0, *weights)
    inputs, kept = [float32(tensor) for tensor in (x, h0, c0)], [float32(weight) for weight in weights]
    incoming = [float32(gradient) for gradient in (y_gradient, h_gradient, c_gradient)]
    if incoming[0] is None:
        incoming[0] = torch.zeros(y.shape)
    shapes = [None if argument is None else argument.shape for argument in arguments]
    gradients = [
        empty_output(*shape) if each and shape is not None else None for shape, each in zip(shapes, wanted, strict=True)
    ]
    if starts is not None and gradients[0] is not None:
        gradients[0][int(starts[-1]) :] = 0
    slopes = empty_output(*trace.shape[:2], SLOPES, trace.shape[3])
    output = float32(y)
    _cpu.gru_backward(
        (address(inputs[0]), address(starts), *addresses(*inputs[1:])),
        addresses(*kept),
        sizes,
        (batch_first, reverse),
        torch.get_num_threads(),
        addresses(output, trace),
        addresses(*incoming),
        address(slopes),
        addresses(*gradients),
    )
    return [x.new_empty(0) if gradient is None else gradient.to(x.dtype) for gradient in gradients]


def _fake_backward(*arguments: Any) -> list[Tensor]:
    x, tensors, wanted = arguments[5], arguments[5:16], arguments[-1]
    return [
        x.new_empty(tensor.shape if each and tensor is not None else (0,))
        for tensor, each in zip(tensors, wanted, strict=True)
    ]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.batch_first, ctx.reverse = inputs
    y, _, _, trace = output
    ctx.save_for_backward(y, trace, *tensors)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of y, h and c; the trace only goes into backward."""
    wanted = list(ctx.needs_input_grad[:11])
    options = (ctx.batch_first, ctx.reverse, wanted)
    found = gru_cpu_backward(*gradients[:3], *ctx.saved_tensors, *options)
    return (*(gradient if each else None for gradient, each in zip(found, wanted, strict=True)), None, None, None)


PROBLEM = (
    "Tensor x, Tensor h0, Tensor? c0,"
    " Tensor input_weight, Tensor recurrent_weight, Tensor? input_bias, Tensor? recurrent_bias,"
    " Tensor? second_input_weight, Tensor? second_recurrent_weight, Tensor? second_input_bias,"
    " Tensor? second_recurrent_bias, Tensor? starts, bool batch_first, bool reverse"
)

gru_cpu = register(
    f"gru_cpu({PROBLEM}) -> (Tensor, Tensor, Tensor, Tensor)",
    device="CPU",
    run=_run_forward,
    fake=_fake_forward,
    backward=_backward,
    save=_save,
)

gru_cpu_backward = register(
    "gru_cpu_backward(Tensor? y_gradient, Tensor? h_gradient, Tensor? c_gradient, Tensor y, Tensor trace,"
    f" {PROBLEM}, bool[] wanted) -> ({', '.join(['Tensor'] * 11)})",
    device="CPU",
    run=_run_backward,
    fake=_fake_backward,
    backward=not_twice_differentiable,
)
