"""Recurrent layers at the sizes of HiCo's and ISC's encoders, forward and backward, against torch's own."""

from collections.abc import Callable
from typing import Any

import torch
from race import OURS, Case
from torch import Tensor

import skelkern

Weights = tuple[Tensor, ...]


def torchs(kind: str, layers: int) -> Callable[..., Tensor]:
    """What `torch.nn.GRU` and `torch.nn.LSTM` call."""

    def function(x: Tensor, *weights: Tensor) -> Tensor:
        zeros = x.new_zeros(2 * layers, x.shape[0], weights[1].shape[1])
        options: Any = (True, layers, 0.0, True, True, True)  # biases, layers, dropout, training, directions
        return (
            torch.gru(x, zeros, weights, *options)
            if kind == "gru"
            else torch.lstm(x, (zeros, zeros), weights, *options)
        )[0]

    return function


def step_by_step(kind: str, layers: int) -> Callable[..., Tensor]:
    """A frame at a time with the states carried along, as ISC's official code calls its encoder."""

    def function(x: Tensor, *weights: Tensor) -> Tensor:
        state = x.new_zeros(2 * layers, x.shape[0], weights[1].shape[1])
        frames = []
        for frame in x.split(1, 1):
            y, state = torch.gru(frame, state, weights, True, layers, 0.0, True, True, True)
            frames.append(y)
        return torch.cat(frames, 1)

    return function


def layer_by_layer(kind: str, layers: int) -> Callable[..., Tensor]:
    """The same result from two forward layers over all frames each."""

    def function(x: Tensor, *weights: Tensor) -> Tensor:
        zeros = x.new_zeros(1, x.shape[0], weights[1].shape[1])
        for i in range(layers):
            halves = (weights[8 * i : 8 * i + 4], weights[8 * i + 4 : 8 * i + 8])
            x = torch.cat([torch.gru(x, zeros, half, True, 1, 0.0, True, False, True)[0] for half in halves], -1)
        return x

    return function


def ours(kind: str, layers: int, reverse: bool = True) -> Callable[..., Tensor]:
    op = getattr(skelkern, kind)

    def function(x: Tensor, *weights: Tensor) -> Tensor:
        y: Tensor = op(x, None, weights, bidirectional=True, batch_first=True, reverse=reverse, impl="cpu")[0]
        return y

    return function


def case(
    name: str,
    kind: str,
    shape: tuple[int, int, int],
    hidden: int,
    layers: int = 1,
    sizes: str = "standard",
    stepping: bool = False,
) -> Case:
    gates = 3 if kind == "gru" else 4
    n, steps, channels = shape

    def inputs() -> tuple[Tensor, ...]:
        module = (torch.nn.GRU if kind == "gru" else torch.nn.LSTM)(channels, hidden, layers, bidirectional=True)
        weights = [weight.detach() for weight in module.parameters()]
        return tuple(tensor.requires_grad_() for tensor in (torch.randn(shape), *weights))

    into = [channels] + [2 * hidden] * (layers - 1)
    weights = sum(2 * gates * hidden * (width + hidden) for width in into)
    flops = 6 * n * steps * weights
    # weights: read twice, their gradients written; of every frame input and result with their gradients, and the gates
    moved = 4 * (3 * weights + n * steps * sum(3 * width + 2 * hidden * (3 + 4 * gates) for width in into))
    official, second = (
        ({"official": step_by_step(kind, layers), "layer by layer": layer_by_layer(kind, layers)}, False)
        if stepping
        else ({"official": torchs(kind, layers)}, True)
    )
    functions = {**official, OURS: ours(kind, layers, second)}
    described = f"{name}, {n} x {steps} x {channels}, {layers} x {hidden}"
    return Case(described, functions, inputs, flops, moved, (), sizes)


CASES = [
    case("small GRU", "gru", (5, 7, 12), 20, 2, sizes="smoke"),
    case("small LSTM", "lstm", (5, 7, 12), 20, 2, sizes="smoke"),
    case("small GRU, frame by frame", "gru", (5, 7, 12), 20, 2, sizes="smoke", stepping=True),
    case("GRU of HiCo", "gru", (64, 64, 512), 256),
    case("GRU of HiCo", "gru", (64, 16, 512), 256),
    case("LSTM of HiCo", "lstm", (64, 64, 512), 256),
    case("GRU of ISC at batch 8, frame by frame", "gru", (8, 64, 150), 1024, 3, stepping=True),
    case("GRU of ISC", "gru", (64, 64, 150), 1024, 3, sizes="full"),
]


def test_gru(compare, case):
    compare(case)
