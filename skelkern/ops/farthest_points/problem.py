"""A call as every compiled kernel takes it, and the memory of its result."""

import torch
from torch import Tensor

from skelkern.ops.knn.problem import knn_problem as farthest_points_problem  # clouds, a mask and a number of points

__all__ = ["empty_picks", "farthest_points_problem"]


def empty_picks(points: Tensor, m: int, mask: Tensor | None, start: int) -> Tensor:
    return points.new_empty(points.shape[0], m, dtype=torch.int64)
