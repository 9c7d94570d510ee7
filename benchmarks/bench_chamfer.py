"""Chamfer distance, squared, forward and backward, against the explicit matrix of the public auto-encoder code."""

import torch
from race import OURS, Case
from torch import Tensor

import skelkern


def official(x: Tensor, y: Tensor) -> Tensor:
    """All squared distances by three products, minima of rows and columns."""
    xx, yy, zz = torch.bmm(x, x.transpose(2, 1)), torch.bmm(y, y.transpose(2, 1)), torch.bmm(x, y.transpose(2, 1))
    rows, columns = torch.arange(x.shape[1]), torch.arange(y.shape[1])
    x_squares = xx[:, rows, rows].unsqueeze(1).expand_as(zz.transpose(2, 1))
    y_squares = yy[:, columns, columns].unsqueeze(1).expand_as(zz)
    distances = x_squares.transpose(2, 1) + y_squares - 2 * zz
    return distances.min(dim=1)[0].sum() + distances.min(dim=2)[0].sum()


def expanded(x: Tensor, y: Tensor) -> Tensor:
    """One product; gradients by the found pairs only."""
    with torch.no_grad():
        scores = torch.baddbmm(y.square().sum(2)[:, None], x, y.transpose(1, 2), alpha=-2)
        of_x = scores.argmin(dim=2)
        of_y = (scores + x.square().sum(2)[:, :, None]).argmin(dim=1)
    batch = torch.arange(len(x))[:, None]
    return (x - y[batch, of_x]).square().sum() + (y - x[batch, of_y]).square().sum()


def cdist(x: Tensor, y: Tensor) -> Tensor:
    distances = torch.cdist(x, y)
    return distances.amin(dim=1).square().sum() + distances.amin(dim=2).square().sum()


def ours(x: Tensor, y: Tensor) -> Tensor:
    return skelkern.chamfer_distance(x, y, reduction="sum")


def case(b: int, n: int, m: int, d: int, sizes: str = "standard") -> Case:
    functions = {"official": official, "plain expanded": expanded, "plain cdist": cdist, OURS: ours}

    def inputs() -> tuple[Tensor, Tensor]:
        return torch.randn(b, n, d, requires_grad=True), torch.randn(b, m, d, requires_grad=True)

    # an operation a coordinate and pair, whichever formulation; clouds are read and their gradients written
    flops, moved = 2 * b * n * m * d, 8 * b * (n + m) * d
    return Case(f"{b} x {n} to {m} points, {d}-D", functions, inputs, flops, moved, ("official",), sizes)


CASES = [
    case(2, 40, 50, 6, sizes="smoke"),
    case(16, 2000, 2025, 6),
    case(16, 2048, 2048, 3),
    case(24, 2000, 2025, 6, sizes="gpu"),
]


def test_chamfer(compare, case):
    compare(case)
