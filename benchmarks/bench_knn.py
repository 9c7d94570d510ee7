"""Nearest neighbours within clouds, against DGCNN's formulation; there is no gradient."""

import torch
from race import OURS, Case
from torch import Tensor

import skelkern


def official(points: Tensor, k: int) -> Tensor:
    """All negative squared distances, expanded, then topk; DGCNN holds points as (B, D, N)."""
    columns = points.transpose(2, 1)
    inner = -2 * torch.matmul(columns.transpose(2, 1), columns)
    squares = torch.sum(columns**2, dim=1, keepdim=True)
    return (-squares - inner - squares.transpose(2, 1)).topk(k=k, dim=-1)[1]


def scores(points: Tensor, k: int) -> Tensor:
    """One product with the norms inside; the row's own norm does not change its order."""
    squares = points.square().sum(dim=2)
    return torch.baddbmm(squares[:, None], points, points.transpose(1, 2), alpha=-2).topk(k, largest=False)[1]


def distances(points: Tensor, k: int) -> Tensor:
    return torch.cdist(points, points).topk(k, largest=False)[1]


def ours(points: Tensor, k: int) -> Tensor:
    return skelkern.knn(points, k)


def neighbour_distances(points: Tensor, k: int, neighbors: Tensor) -> Tensor:
    """Distances in rising order: peers that expand squares may swap points that are equally far within float32."""
    others = torch.stack([cloud[rows] for cloud, rows in zip(points, neighbors, strict=True)])
    return (others - points[:, :, None]).norm(dim=3).sort(dim=2).values


def case(b: int, n: int, d: int, k: int = 20, sizes: str = "standard") -> Case:
    functions = {"official": official, "plain baddbmm": scores, "plain cdist": distances, OURS: ours}
    flops = 2 * b * n * n * d if d > 8 else 3 * b * n * n * d
    return Case(
        f"{b} clouds of {n} points, {d}-D",
        functions,
        lambda: (torch.randn(b, n, d), k),
        flops,
        4 * b * n * (d + 2 * k),
        ("official", "plain baddbmm"),
        sizes,
        observe=neighbour_distances,
    )


CASES = [
    case(2, 100, 3, sizes="smoke"),
    case(2, 100, 16, sizes="smoke"),
    case(16, 1000, 3),
    case(16, 1000, 64),
    case(16, 1000, 128),
    case(16, 2000, 3, sizes="full"),
    case(16, 2000, 64, sizes="full"),
    case(16, 2000, 128, sizes="full"),
    case(24, 2000, 3, sizes="gpu"),
    case(24, 2000, 64, sizes="gpu"),
]


def test_knn(compare, case):
    compare(case)
