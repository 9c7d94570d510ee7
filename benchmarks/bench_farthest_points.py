"""Farthest point sampling, against the loop of the public PointNet++ code in PyTorch; there is no gradient."""

import torch
from race import OURS, Case
from torch import Tensor

import skelkern


def official(points: Tensor, m: int) -> Tensor:
    """One pick of all clouds after the other, on all points as they lie."""
    b, n, _ = points.shape
    picks, distance = torch.zeros(b, m, dtype=torch.long), torch.full((b, n), 1e10)
    farthest, batch = torch.zeros(b, dtype=torch.long), torch.arange(b)
    for i in range(m):
        picks[:, i] = farthest
        centre = points[batch, farthest].view(b, 1, -1)
        to_centre = ((points - centre) ** 2).sum(-1)
        nearer = to_centre < distance
        distance[nearer] = to_centre[nearer]
        farthest = distance.max(-1)[1]
    return picks


def minimum(points: Tensor, m: int) -> Tensor:
    """The same with a fused minimum and coordinates apart."""
    b, n, _ = points.shape
    coordinates, distance = points.unbind(dim=2), torch.full((b, n), torch.inf)
    pick, picks = torch.zeros(b, 1, dtype=torch.long), []
    for _ in range(m):
        picks.append(pick)
        to_pick = sum((own - own.gather(1, pick)).square() for own in coordinates)
        distance = torch.minimum(distance, to_pick)
        pick = distance.argmax(dim=1, keepdim=True)
    return torch.cat(picks, dim=1)


def ours(points: Tensor, m: int) -> Tensor:
    return skelkern.farthest_point_sample(points, m)


def case(b: int, n: int, m: int, d: int, sizes: str = "standard") -> Case:
    functions = {"official": official, "plain, coordinates apart": minimum, OURS: ours}
    return Case(
        f"{m} of {b} x {n} points, {d}-D",
        functions,
        lambda: (torch.randint(-512, 512, (b, n, d)) / 256, m),  # exact distances: one order for every peer
        3 * b * n * m * d,
        4 * b * n * d,
        (),
        sizes,
    )


CASES = [
    case(2, 60, 10, 3, sizes="smoke"),
    case(16, 2000, 512, 3),
    case(24, 2000, 512, 3, sizes="gpu"),
]


def test_farthest_points(compare, case):
    compare(case)
