"""A call as every compiled kernel takes it, and the memory of its result."""

import torch
from torch import Tensor

from skelkern.registration import float32


def knn_problem(points: Tensor, k: int, mask: Tensor | None) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
    """(points, mask, sizes)."""
    return float32(points), None if mask is None else mask.contiguous(), (*points.shape, k)


def empty_neighbors(points: Tensor, k: int, mask: Tensor | None) -> Tensor:
    return points.new_empty(*points.shape[:2], k, dtype=torch.int64)
