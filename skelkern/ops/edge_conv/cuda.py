"""Edge convolution by the CUDA kernels (`csrc/edge_conv/edge_conv.cu`), with torch's products over points."""

from typing import Any

import torch
from torch import Tensor

from skelkern.checks import checks_values
from skelkern.cuda_kernels import cuda_kernel_why_not, cuda_module, queue, workspace
from skelkern.ops.edge_conv.kernels import (
    check_edges,
    check_index,
    empty_results,
    given_statistics,
    register_kernels,
    statistics_of,
    tail_of,
    too_many_neighbors,
)
from skelkern.processes import of_each
from skelkern.registration import address, addresses, float32
from skelkern.statistics import merged

MOST_POINTS = 2**24  # with a slot, a number of 32 bits
MOST_EDGES = 2**31  # of a cloud


def cuda_why_not(*tensors: Tensor | None) -> tuple[str, ...]:
    """`why_not` of the CUDA kernels."""
    reasons = (*cuda_kernel_why_not(*tensors), *too_many_neighbors(*tensors))
    neighbors = tensors[1] if len(tensors) > 1 else None
    if neighbors is None or neighbors.dim() != 3:
        return reasons
    (_, n, k) = neighbors.shape
    if n >= MOST_POINTS or n * k >= MOST_EDGES:
        return (*reasons, f"a cloud of {n} points and {n * k} edges, not below {MOST_POINTS} and {MOST_EDGES}")
    return reasons


def _problem(neighbors: Tensor, gamma: Tensor, mask: Tensor | None, weight: Tensor) -> tuple[Any, ...]:
    """(arrays, sizes) as the kernels take them; x and weight they know by their products only."""
    arrays = (None, neighbors.contiguous(), None, float32(gamma), None if mask is None else mask.contiguous())
    return arrays, (*neighbors.shape, weight.shape[1] // 2, weight.shape[0])


def _stacked(weight: Tensor) -> Tensor:
    """W₁ and W₂ − W₁ below each other, (2C', C)."""
    of_others, of_own = float32(weight).chunk(2, dim=1)
    return torch.cat([of_others, of_own - of_others])


def _points(x: Tensor, stacked: Tensor) -> Tensor:
    """Both products of every point, (B N, 2C')."""
    return float32(x).flatten(0, 1) @ stacked.T


def _run_forward(
    x: Tensor,
    neighbors: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    mask: Tensor | None,
    eps: float,
    negative_slope: float,
    group: str,
    keeps: bool,
) -> tuple[Tensor, ...]:
    if checks_values(neighbors):
        check_index(neighbors, x.shape[1])
    c_out = weight.shape[0]
    arrays, sizes = _problem(neighbors, gamma, mask, weight)
    problem = addresses(*arrays), sizes, queue(x)
    with torch.autocast(x.device.type, enabled=False):
        points = _points(x, _stacked(weight))
    y = x.new_empty(*x.shape[:2], c_out, dtype=torch.float32)
    extremes, slots, sums, counts = kept = empty_results(x, weight, keeps, True)
    edges = addresses(extremes, slots, sums) if keeps else (address(y), 0, 0)
    if mean is None or variance is None:
        memory = workspace(x, 2 * cuda_module().edge_conv_partials(sizes))
        total = x.new_empty(1 + 2 * c_out, dtype=torch.float64)
        mean, variance = (x.new_empty(c_out, dtype=torch.float32) for _ in range(2))
        statistics = addresses(memory, total, mean, variance)
        cuda_module().edge_conv_gather(*problem, address(points), edges, address(counts), statistics)
        if group:
            total = merged(of_each(total, group))
            mean, variance = statistics_of(total)
        count = total[0].clone()
        _check_count(count, neighbors, mask, group)
    else:
        cuda_module().edge_conv_gather(*problem, address(points), edges, address(counts), (0, 0, 0, 0))
        mean, variance = given_statistics(mean, variance)
        count = counts.sum(dtype=torch.float64)
    tail = tail_of(mean, variance, eps, beta)
    cuda_module().edge_conv_finish(*problem, addresses(*tail), negative_slope, address(counts), edges[0], address(y))
    return y.to(x.dtype), mean, variance, count, *kept


def _check_count(count: Tensor, neighbors: Tensor, mask: Tensor | None, group: str) -> None:
    """Raises where there is one edge only, as far as can be known without waiting for the device."""
    if checks_values(neighbors):
        check_edges(count.item())
    elif mask is None and not group:
        check_edges(neighbors.numel())


def _run_backward(
    y_gradient: Tensor,
    x: Tensor,
    neighbors: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    count: Tensor,
    extremes: Tensor,
    slots: Tensor,
    sums: Tensor,
    counts: Tensor,
    eps: float,
    negative_slope: float,
    group: str,
    through_statistics: bool,
    wants_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    arrays, sizes = _problem(neighbors, gamma, mask, weight)
    problem, incoming, stacked = (addresses(*arrays), sizes, queue(x)), float32(y_gradient), _stacked(weight)
    tail = tail_of(mean, variance, eps, beta)
    curve = *problem, addresses(*tail), negative_slope
    hits, of_tail = torch.empty_like(extremes), x.new_empty(2, weight.shape[0], dtype=torch.float64)
    partials = workspace(x, 2 * cuda_module().edge_conv_partials(sizes))
    results = addresses(hits, partials, of_tail)
    cuda_module().edge_conv_reduce(*curve, *addresses(counts, extremes, incoming), *results)
    means, points = None, None
    of_points = x.new_empty(x.shape[0] * x.shape[1], 2 * weight.shape[0], dtype=torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        if through_statistics:
            means = (torch.stack(of_each(of_tail, group)).sum(dim=0) / count).float()
            points = _points(x, stacked)
        reverse = workspace(x, cuda_module().edge_conv_reverse(sizes))
        passed = addresses(extremes, slots, sums), addresses(counts, hits, means, points)
        cuda_module().edge_conv_backward(*curve, *passed, address(reverse), address(of_points))
        of_x = (of_points @ stacked).view(x.shape) if wants_x else x.new_empty(0, 0, 0)
        of_weight = _weight_gradient(of_points, x, mask)
    return of_x.to(x.dtype), of_weight.to(weight.dtype), of_tail[1].to(gamma.dtype), of_tail[0].to(beta.dtype)


def _weight_gradient(of_points: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
    """(C', 2C), from the gradients of both products; points outside the mask may hold anything."""
    rows = float32(x) if mask is None else torch.where(mask[..., None], float32(x), 0)
    of_others, of_own = (of_points.T @ rows.flatten(0, 1)).chunk(2)
    return torch.cat([of_others - of_own, of_own], dim=1)


cuda_edges = register_kernels("cuda", _run_forward, _run_backward)
