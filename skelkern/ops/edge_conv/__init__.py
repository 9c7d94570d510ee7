"""Edge convolution of point clouds, with batch normalisation, without building edges."""

from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.autocast import follow_autocast
from skelkern.checks import check_number, check_same, check_shape, check_tensor
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.memory import empty_output
from skelkern.ops.edge_conv import reference
from skelkern.ops.edge_conv.cuda import cuda_edges, cuda_why_not
from skelkern.ops.edge_conv.kernels import (
    Edges,
    check_edges,
    check_index,
    given_statistics,
    register_kernels,
    statistics_of,
    tail_of,
    too_many_neighbors,
)
from skelkern.processes import of_each
from skelkern.registration import address, addresses, float32
from skelkern.statistics import merged, update_running


def edge_conv(
    x: Tensor,
    neighbors: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
    *,
    mask: Tensor | None = None,
    group: Any = None,
    impl: str = "auto",
) -> Tensor:
    """Edge convolution: maxⱼ LeakyReLU(BN(W [xⱼ − xᵢ ; xᵢ])) over the neighbours j of every point i.

    W [xⱼ − xᵢ ; xᵢ] = W₁xⱼ + (W₂ − W₁)xᵢ: the kernel multiplies points, then adds and compares for each edge, and keeps
    the extreme, its slot and the sum of each point's edges. The result is exact, also for negative gamma and the batch
    statistics, which run over all edges, and so are the gradients of x, weight, gamma and beta. Under autocast x and
    weight are cast to the autocast dtype; the kernel itself computes in float32.

    Source: Wang et al., "Dynamic Graph CNN", ACM TOG 2019, section 3.1 and figure 2.

    Args:
        x: (B, N, C), one point a row.
        neighbors: (B, N, k) int64 indices within the cloud, as from `skelkern.knn`.
        weight: (C', 2C), the differences' columns first; the 1 x 1 convolution of DGCNN, which has no bias.
        gamma: (C') scale of the batch normalisation.
        beta: (C') shift.
        running_mean: (C') or None; changed in place when training.
        running_var: (C') or None; as running_mean, unbiased.
        training: normalise by the statistics of all edges (biased variance) instead of the running ones.
        momentum: share of the edges' statistics in the new running ones.
        eps: added to the variance.
        negative_slope: of LeakyReLU, in [0, 1].
        mask: (B, N) bool; edges from and to points outside it do not exist.
        group: process group over which statistics are taken, forward and backward.
        impl: "auto", "reference", "cpu" or "cuda"; see `skelkern.explain`.

    Returns:
        (B, N, C') in x's dtype; 0 for points without edges. At equal values the gradient goes to the first neighbour.

    Raises:
        TypeError: a dtype is not as listed.
        ValueError: shapes or devices do not fit, an index is not in [0, N), running statistics are missing where they
            are needed, or there is only one edge to take statistics of.
    """
    x, weight = follow_autocast(x, weight)
    _check(
        x, neighbors, weight, {"gamma": gamma, "beta": beta, "running_mean": running_mean, "running_var": running_var}
    )
    if mask is not None:
        check_tensor("mask", mask, (torch.bool,))
        check_shape("mask", mask, "B N", {"B": x.shape[0], "N": x.shape[1]})
        check_same("device", "x", x, mask=mask)
    check_number("momentum", momentum, 0, 1)
    check_number("eps", eps, low=0)
    check_number("negative_slope", negative_slope, 0, 1)
    if not training and (running_mean is None or running_var is None):
        raise ValueError("running_mean, running_var: expected tensors when not training, found None")
    statistics = (None, None) if training else (running_mean, running_var)
    run = EDGE_CONV.choose(impl, x, neighbors, weight, gamma, beta, running_mean, running_var, mask)
    if neighbors.numel() == 0 or weight.numel() == 0:
        return x.new_zeros(*x.shape[:2], weight.shape[0])
    y, mean, variance, count = run(
        x, neighbors, weight, gamma, beta, *statistics, mask, float(eps), float(negative_slope), group
    )
    if training:
        update_running(running_mean, running_var, mean, variance, count, momentum)
    return y


def _check(x: Tensor, neighbors: Tensor, weight: Tensor, by_channel: dict[str, Tensor | None]) -> None:
    sizes: dict[str, int] = {}
    check_tensor("x", x)
    check_shape("x", x, "B N C", sizes)
    check_tensor("neighbors", neighbors, (torch.int64,))
    check_shape("neighbors", neighbors, "B N k", sizes)
    check_tensor("weight", weight)
    check_shape("weight", weight, "C' 2C", sizes)
    if sizes["2C"] != 2 * sizes["C"]:
        raise ValueError(f"weight: expected {2 * sizes['C']} columns, twice x's channels, found {sizes['2C']}")
    if sizes["k"] == 0:
        raise ValueError("neighbors: expected at least one neighbour of each point, found none")
    check_same("dtype", "x", x, weight=weight)
    for name, tensor in by_channel.items():
        if tensor is not None:
            check_tensor(name, tensor)
            check_shape(name, tensor, "C'", sizes)
    check_same("device", "x", x, neighbors=neighbors, weight=weight, **by_channel)


def _reference(x: Tensor, neighbors: Tensor, *rest: Any) -> Edges:
    wide = torch.promote_types(x.dtype, torch.float32)
    *tensors, mean, variance, mask, eps, negative_slope, group = rest
    weight, gamma, beta = (tensor.to(wide) for tensor in tensors)
    mean, variance = (None if value is None else value.to(wide) for value in (mean, variance))
    if not torch.compiler.is_compiling():
        check_index(neighbors, x.shape[1])
    with torch.autocast(x.device.type, enabled=False):
        y, mean, variance, count = reference.edge_conv(
            x.to(wide), neighbors, weight, gamma, beta, mean, variance, mask, eps, negative_slope, group
        )
    if rest[3] is None and not torch.compiler.is_compiling():
        check_edges(count.item())
    return y.to(x.dtype), mean, variance, count


def _why_not(*tensors: Tensor | None) -> tuple[str, ...]:
    return (*cpu_kernel_why_not(*tensors), *too_many_neighbors(*tensors))


def _problem(
    x: Tensor, neighbors: Tensor, weight: Tensor, gamma: Tensor, mask: Tensor | None
) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """(arrays, sizes) as the kernel takes them."""
    (b, n, c), k, c_out = x.shape, neighbors.shape[2], weight.shape[0]
    valid = None if mask is None else mask.contiguous()
    return (float32(x), neighbors.contiguous(), float32(weight), float32(gamma), valid), (b, n, k, c, c_out)


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
    arrays, sizes = _problem(x, neighbors, weight, gamma, mask)
    problem = (addresses(*arrays), sizes, torch.get_num_threads())
    shape = (x.shape[0], x.shape[1], weight.shape[0])
    y = empty_output(*shape)
    extremes, sums = (empty_output(*shape), empty_output(*shape)) if keeps else (torch.empty(0), torch.empty(0))
    slots = torch.empty(shape if keeps else 0, dtype=torch.uint8)
    total = torch.empty(1 + 2 * weight.shape[0], dtype=torch.float64)
    edges = addresses(extremes, slots, sums) if keeps else (address(y), 0, 0)
    total[0] = _cpu.edge_conv_gather(*problem, edges, address(total[1:]))
    if total[0] < 0:
        check_index(neighbors, x.shape[1])
    if mean is None or variance is None:
        total = merged(of_each(total, group))
        check_edges(total[0].item())
        mean, variance = statistics_of(total)
    else:
        mean, variance = given_statistics(mean, variance)
    tail = tail_of(mean, variance, eps, beta)
    _cpu.edge_conv_finish(*problem, addresses(*tail), negative_slope, edges[0], address(y))
    return y.to(x.dtype), mean, variance, total[0].clone(), extremes, slots, sums


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
    eps: float,
    negative_slope: float,
    group: str,
    through_statistics: bool,
    wants_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    arrays, sizes = _problem(x, neighbors, weight, gamma, mask)
    problem = (addresses(*arrays), sizes, torch.get_num_threads())
    incoming, tail = float32(y_gradient), tail_of(mean, variance, eps, beta)
    curve = (addresses(*tail), negative_slope)
    of_tail = torch.empty(2, weight.shape[0], dtype=torch.float64)
    _cpu.edge_conv_reduce(*problem, *curve, address(extremes), address(incoming), address(of_tail))
    means = torch.zeros(2, weight.shape[0])
    if through_statistics:
        means = (torch.stack(of_each(of_tail, group)).sum(dim=0) / count).float()
    of_x, of_weight = empty_output(*(x.shape if wants_x else (0, 0, 0))), torch.empty(weight.shape)
    edges, results = addresses(extremes, slots, sums), (address(of_x), address(of_weight))
    _cpu.edge_conv_backward(*problem, *curve, edges, address(incoming), address(means), *results)
    return of_x.to(x.dtype), of_weight.to(weight.dtype), of_tail[1].to(gamma.dtype), of_tail[0].to(beta.dtype)


_cpu_edges = register_kernels("cpu", _run_forward, _run_backward)

EDGE_CONV = register_op(
    "edge_conv",
    Implementation("cuda", cuda_edges, cuda_why_not),
    Implementation("cpu", _cpu_edges, _why_not),
    Implementation("reference", _reference, runs_anything),
)
