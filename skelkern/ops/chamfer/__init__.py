"""Chamfer distance of masked clouds without the array of all distances."""

from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.checks import check_choice, check_same, check_shape, check_tensor, checks_values
from skelkern.cuda_kernels import clouds_why_not
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.numpy_interop import accepts_numpy
from skelkern.ops.chamfer import reference
from skelkern.ops.chamfer.cuda import cuda_distances
from skelkern.ops.chamfer.kernels import register_kernels

REDUCTIONS = ("sum_of_means", "max_of_means", "sum", "none")


@accepts_numpy
def chamfer_distance(
    x: Tensor,
    y: Tensor,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    *,
    reduction: str = "sum_of_means",
    squared: bool = True,
    weights: Tensor | None = None,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Distance between clouds: of every point to the nearest of the other cloud, both ways.

    The kernel makes each distance once, by subtraction, for both directions, and keeps indices of the nearest points
    for backward. Ties go to the lower index; a NaN distance ranks as infinite. NumPy arrays are taken, then returned.

    Source: Fan et al., CVPR 2017, section 4.2; Yang et al., "FoldingNet", CVPR 2018, eq. 1 (the larger of the means).

    Args:
        x: (B, N, D).
        y: (B, M, D).
        x_mask: (B, N) bool, points that count; default all.
        y_mask: (B, M) bool.
        reduction: "sum_of_means": mean over the batch of the mean distance from x to y plus that from y to x;
            "max_of_means": of the larger of the two, that from x where they are equal; "sum": all distances added;
            "none": both, (B, N) and (B, M), 0 for points that do not count.
        squared: squared distances instead of Euclidean ones; the gradient of a Euclidean distance at 0 is 0.
        weights: (D) factors, not negative, of squared differences; no gradient.
        impl: "auto", "reference", "cpu" or "cuda"; see `skelkern.explain`.

    Returns:
        float32 (float64 for float64 inputs), differentiable by x and y. Means are over points that count; a pair of
        clouds one of which has none contributes 0.

    Raises:
        TypeError: x or y is no floating-point tensor, their dtypes differ, or a mask is not bool.
        ValueError: shapes or devices do not fit, a weight is negative or the reduction unknown.
    """
    _check(x, y, x_mask, y_mask, weights)
    check_choice("reduction", reduction, REDUCTIONS)
    run = CHAMFER.choose(impl, x, y, x_mask, y_mask, weights)
    to_y, to_x = run(x, y, x_mask, y_mask, None if weights is None else weights.detach(), squared)
    if reduction == "none":
        return to_y, to_x
    if reduction == "sum":
        return to_y.sum() + to_x.sum()
    from_x, from_y = _mean(to_y, x_mask), _mean(to_x, y_mask)
    if reduction == "sum_of_means":
        return (from_x + from_y).mean()
    return torch.where(from_x >= from_y, from_x, from_y).mean()


def _mean(distances: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of each cloud's distances over the points that count; 0 without any."""
    if mask is None:
        return distances.sum(dim=1) / max(distances.shape[1], 1)
    return distances.sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def _check(x: Tensor, y: Tensor, x_mask: Tensor | None, y_mask: Tensor | None, weights: Tensor | None) -> None:
    sizes: dict[str, int] = {}
    for name, tensor, pattern in (("x", x, "B N D"), ("y", y, "B M D")):
        check_tensor(name, tensor)
        check_shape(name, tensor, pattern, sizes)
    check_same("dtype", "x", x, y=y)
    for name, mask, pattern in (("x_mask", x_mask, "B N"), ("y_mask", y_mask, "B M")):
        if mask is not None:
            check_tensor(name, mask, (torch.bool,))
            check_shape(name, mask, pattern, sizes)
    if weights is not None:
        check_tensor("weights", weights)
        check_shape("weights", weights, "D", sizes)
    check_same("device", "x", x, y=y, x_mask=x_mask, y_mask=y_mask, weights=weights)
    if weights is not None and checks_values(weights) and bool((weights < 0).any()):
        raise ValueError(f"weights: expected no negative value, found {weights.min().item()}")


def _reference(x: Tensor, y: Tensor, x_mask: Any, y_mask: Any, weights: Any, squared: bool) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    scale = None if weights is None else weights.to(wide)
    return reference.nearest_distances(x.to(wide), y.to(wide), x_mask, y_mask, scale, squared)


_cpu_distances = register_kernels("cpu", lambda: _cpu, lambda _: torch.get_num_threads())

CHAMFER = register_op(
    "chamfer_distance",
    Implementation("cuda", cuda_distances, clouds_why_not),
    Implementation("cpu", _cpu_distances, cpu_kernel_why_not),
    Implementation("reference", _reference, runs_anything),
)
