"""A layer of a GRU or an LSTM by torch's own functions, for any dtype and device."""

from typing import Any

import torch
from torch import Tensor

Weights = tuple[Tensor | None, ...]  # input, recurrent, input bias, recurrent bias of a direction, then of the other
Layer = tuple[Tensor, Tensor, Tensor | None]  # y, h (D, N, H) and c (D, N, H) of an LSTM


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: Weights,
    starts: Tensor | None,
    batch_first: bool,
    reverse: bool,
) -> Layer:
    """x (T, N, C), (N, T, C) with batch_first, or rows (R, C) of which those of frame t begin at starts[t]."""
    if h0.shape[0] == 1 or reverse:
        return _run(x, h0, c0, weights, starts, batch_first)
    halves = [
        _run(x, h0[i : i + 1], None if c0 is None else c0[i : i + 1], weights[4 * i :][:4], starts, batch_first)
        for i in range(2)
    ]
    (y1, h1, c1), (y2, h2, c2) = halves
    return torch.cat((y1, y2), -1), torch.cat((h1, h2)), None if c1 is None or c2 is None else torch.cat((c1, c2))


def _run(x: Tensor, h0: Tensor, c0: Tensor | None, weights: Weights, starts: Tensor | None, batch_first: bool) -> Layer:
    parameters = [weight for weight in weights if weight is not None]
    directions = h0.shape[0]
    options = (len(parameters) == 4 * directions, 1, 0.0, False, directions == 2)  # biases, layers, dropout, training
    run: Any = torch.gru if c0 is None else torch.lstm
    state = h0 if c0 is None else (h0, c0)
    if starts is None:
        y, *last = run(x, state, parameters, *options, batch_first)
    else:
        sizes = starts.diff().cpu()
        sizes = sizes[sizes > 0]
        frames = int(sizes.sum())
        y, *last = run(x[:frames], sizes, state, parameters, *options)
        y = torch.nn.functional.pad(y, (0, 0, 0, x.shape[0] - frames))
    return y, last[0], last[1] if c0 is not None else None
