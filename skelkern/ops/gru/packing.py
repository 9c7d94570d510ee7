"""Sequences of different lengths without their padding, as torch packs them: frame by frame, the longest first.

All shapes stay those of the padded batch, so that nothing depends on the values of the lengths: what the packed frames
leave over at the end of their rows is zero.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from skelkern.registration import register

Sequences = Tensor | PackedSequence


@dataclass(frozen=True)
class Frames:
    """How the layers see a batch.

    Attributes:
        data: (T, N, C), (N, T, C) or rows (R, C).
        starts: of rows, where each frame's begin (T + 1).
        order: which sequence comes at which place, where they are sorted.
        rows: of a padded batch with lengths, `place_rows`'s tables from packed to padded rows.
    """

    data: Tensor
    starts: Tensor | None = None
    order: Tensor | None = None
    rows: tuple[Tensor, Tensor] | None = None

    def sort(self, state: Tensor) -> Tensor:
        """A state (L·D, N, H) of the sequences in the order of the layers."""
        return state if self.order is None else state.index_select(1, self.order)

    def unsort(self, state: Tensor) -> Tensor:
        """The reverse of `sort`."""
        return state if self.order is None else state.index_select(1, self.order.argsort())

    def restore(self, y: Tensor, x: Sequences) -> Sequences:
        """The last layer's result in the form of the batch x."""
        if isinstance(x, PackedSequence):
            return PackedSequence(y, *x[1:])
        return y if self.rows is None else place_rows(y, *self.rows).view(*x.shape[:-1], -1)


def lay_out(x: Sequences, data: Tensor, lengths: Tensor | None, batch_first: bool) -> Frames:
    """Leaves out the padding; data are x's values, which may have been cast."""
    if isinstance(x, PackedSequence):
        return Frames(data, torch.nn.functional.pad(x.batch_sizes.cumsum(0), (1, 0)), x.sorted_indices)
    if lengths is None:
        return Frames(data)
    steps = x.shape[1 if batch_first else 0]
    order, starts, sources, targets = packing_tables(lengths.cpu(), steps, batch_first)
    order, sources, targets = (table.to(x.device) for table in (order, sources, targets))
    return Frames(place_rows(data.flatten(0, 1), sources, targets), starts, order, (targets, sources))


def _run_tables(lengths: Tensor, steps: int, batch_first: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n = lengths.shape[0]
    if n > 0 and not (lengths.min() >= 1 and lengths.max() <= steps):
        raise ValueError(f"lengths: expected values from 1 to {steps}, found {lengths.tolist()}")
    order = lengths.argsort(descending=True, stable=True)
    frame, rank = torch.arange(steps)[:, None], torch.arange(n)
    sizes = (lengths > frame).sum(1)
    starts = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
    present = rank < sizes[:, None]
    packed = (starts[:-1, None] + rank)[present]
    padded = (order * steps + frame if batch_first else frame * n + order)[present]
    sources, targets = torch.full((2, n * steps), -1)
    sources[packed], targets[padded] = padded, packed
    return order, starts, sources.clone(), targets.clone()


def _fake_tables(lengths: Tensor, steps: int, batch_first: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n = lengths.shape[0]
    order, starts, sources, targets = (lengths.new_empty(size) for size in (n, steps + 1, n * steps, n * steps))
    return order, starts, sources, targets


def _run_place(x: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
    y = x.index_select(0, sources.clamp(min=0))
    y[sources < 0] = 0
    return y


def _fake_place(x: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
    return x.new_empty(sources.shape[0], x.shape[1])


def _save_place(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _backward_place(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    sources, targets = ctx.saved_tensors
    return place_rows(gradient, targets, sources), None, None


packing_tables = register(
    "packing_tables(Tensor lengths, int steps, bool batch_first) -> (Tensor, Tensor, Tensor, Tensor)",
    device="CPU",
    run=_run_tables,
    fake=_fake_tables,
)
"""lengths (N) on the CPU -> which sequence comes at which place (N), each frame's first row (T + 1), which padded row
each packed row is, and the reverse (T·N); −1 for none."""

place_rows = register(
    "place_rows(Tensor x, Tensor sources, Tensor targets) -> Tensor",
    device="CompositeExplicitAutograd",
    run=_run_place,
    fake=_fake_place,
    backward=_backward_place,
    save=_save_place,
)
"""Row i of the result is row sources[i] of x (R, C), or zero where that is −1; targets says the reverse."""
