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
from skelkern.ops.edge_conv.groups import gathered, group_name
from skelkern.registration import address, addresses, float32, not_twice_differentiable, register
from skelkern.statistics import update_running

MOST_NEIGHBORS = 256  # a slot is a byte


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
        impl: "auto", "reference" or "cpu"; see `skelkern.explain`.

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


def _check_index(neighbors: Tensor, count: int) -> None:
    wrong = neighbors[(neighbors < 0) | (neighbors >= count)]
    if wrong.numel() > 0:
        raise ValueError(f"neighbors: expected values in [0, {count}), found {wrong[0].item()}")


def _check_edges(training: bool, count: float) -> None:
    if training and count <= 1:
        raise ValueError(f"neighbors: expected more than one edge to take statistics of, found {int(count)}")


Edges = tuple[Tensor, Tensor, Tensor, Tensor]  # y, mean and biased variance (C'), number of edges


def _reference(x: Tensor, neighbors: Tensor, *rest: Any) -> Edges:
    wide = torch.promote_types(x.dtype, torch.float32)
    *tensors, mean, variance, mask, eps, negative_slope, group = rest
    weight, gamma, beta = (tensor.to(wide) for tensor in tensors)
    mean, variance = (None if value is None else value.to(wide) for value in (mean, variance))
    if not torch.compiler.is_compiling():
        _check_index(neighbors, x.shape[1])
    with torch.autocast(x.device.type, enabled=False):
        y, mean, variance, count = reference.edge_conv(
            x.to(wide), neighbors, weight, gamma, beta, mean, variance, mask, eps, negative_slope, group
        )
    if not torch.compiler.is_compiling():
        _check_edges(rest[3] is None, count.item())
    return y.to(x.dtype), mean, variance, count


def _cpu_edges(*arguments: Any) -> Edges:
    *most, group = arguments
    keeps = torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in most)
    y, mean, variance, count, *_ = edge_conv_cpu(*most, group_name(group), keeps)
    return y, mean, variance, count


def _why_not(*tensors: Tensor | None) -> tuple[str, ...]:
    neighbors = tensors[1] if len(tensors) > 1 else None
    if neighbors is not None and neighbors.dim() == 3 and neighbors.shape[2] > MOST_NEIGHBORS:
        return (*cpu_kernel_why_not(*tensors), f"{neighbors.shape[2]} neighbours, more than {MOST_NEIGHBORS}")
    return cpu_kernel_why_not(*tensors)


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
    moments = torch.empty(2, weight.shape[0], dtype=torch.float64)
    edges = addresses(extremes, slots, sums) if keeps else (address(y), 0, 0)
    count = float(_cpu.edge_conv_gather(*problem, edges, address(moments)))
    if count < 0:
        _check_index(neighbors, x.shape[1])
    if mean is None or variance is None:
        count, moments = _merged(gathered(torch.cat([torch.tensor([count]).double(), moments.flatten()]), group))
        _check_edges(True, count)
        mean, variance = moments[0].float(), (moments[1] / count).float()
    else:
        mean, variance = (value.detach().to(torch.float32, copy=True) for value in (mean, variance))
    tail = (mean, (variance + eps).rsqrt(), float32(beta))
    _cpu.edge_conv_finish(*problem, addresses(*tail), negative_slope, edges[0], address(y))
    return y.to(x.dtype), mean, variance, torch.tensor(count, dtype=torch.float64), extremes, slots, sums


def _merged(parts: list[Tensor]) -> tuple[float, Tensor]:
    """Number of edges, and mean and squared deviations (2, C'), of all processes together (Chan et al., 1979)."""
    edges, moments = 0.0, parts[0].new_zeros(2, (parts[0].numel() - 1) // 2)
    for part in parts:
        own, own_moments = part[0].item(), part[1:].view(2, -1)
        if own == 0:
            continue
        distance = own_moments[0] - moments[0]
        moments[1] += own_moments[1] + distance.square() * (edges * own / (edges + own))
        moments[0] += distance * (own / (edges + own))
        edges += own
    return edges, moments


def _fake_forward(x: Tensor, neighbors: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    shape, keeps = (x.shape[0], x.shape[1], weight.shape[0]), rest[-1]
    mean, variance = (x.new_empty(weight.shape[0], dtype=torch.float32) for _ in range(2))
    extremes, sums = (x.new_empty(shape if keeps else 0, dtype=torch.float32) for _ in range(2))
    slots = x.new_empty(shape if keeps else 0, dtype=torch.uint8)
    return x.new_empty(shape), mean, variance, x.new_empty((), dtype=torch.float64), extremes, slots, sums


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
    incoming, tail = float32(y_gradient), (mean, (variance + eps).rsqrt(), float32(beta))
    curve = (addresses(*tail), negative_slope)
    of_tail = torch.empty(2, weight.shape[0], dtype=torch.float64)
    _cpu.edge_conv_reduce(*problem, *curve, address(extremes), address(incoming), address(of_tail))
    means = torch.zeros(2, weight.shape[0])
    if through_statistics:
        means = (torch.stack(gathered(of_tail, group)).sum(dim=0) / count).float()
    of_x, of_weight = empty_output(*(x.shape if wants_x else (0, 0, 0))), torch.empty(weight.shape)
    edges, results = addresses(extremes, slots, sums), (address(of_x), address(of_weight))
    _cpu.edge_conv_backward(*problem, *curve, edges, address(incoming), address(means), *results)
    return of_x.to(x.dtype), of_weight.to(weight.dtype), of_tail[1].to(gamma.dtype), of_tail[0].to(beta.dtype)


def _fake_backward(
    y_gradient: Tensor, x: Tensor, neighbors: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    of_x = x.new_empty(x.shape if rest[-1] else (0, 0, 0))
    return of_x, torch.empty_like(weight), torch.empty_like(gamma), torch.empty_like(beta)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, neighbors, weight, gamma, beta, mean, _, mask, *options, _ = inputs
    ctx.save_for_backward(x, neighbors, weight, gamma, beta, mask, *output[1:])
    ctx.options = (*options, mean is None)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, y_gradient: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if y_gradient is None:
        return (None,) * 12
    needed = ctx.needs_input_grad
    of_x, *others = edge_conv_cpu_backward(y_gradient, *ctx.saved_tensors, *ctx.options, needed[0])
    of_weight, of_gamma, of_beta = (value if needed[i] else None for i, value in zip((2, 3, 4), others, strict=True))
    return of_x if needed[0] else None, None, of_weight, of_gamma, of_beta, *(None,) * 7


edge_conv_cpu = register(
    "edge_conv_cpu(Tensor x, Tensor neighbors, Tensor weight, Tensor gamma, Tensor beta, Tensor? mean,"
    " Tensor? variance, Tensor? mask, float eps, float negative_slope, str group, bool keeps)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    device="CPU",
    run=_run_forward,
    fake=_fake_forward,
    backward=_backward,
    save=_save,
)

edge_conv_cpu_backward = register(
    "edge_conv_cpu_backward(Tensor y_gradient, Tensor x, Tensor neighbors, Tensor weight, Tensor gamma, Tensor beta,"
    " Tensor? mask, Tensor mean, Tensor variance, Tensor count, Tensor extremes, Tensor slots, Tensor sums, float eps,"
    " float negative_slope, str group, bool through_statistics, bool wants_x) -> (Tensor, Tensor, Tensor, Tensor)",
    device="CPU",
    run=_run_backward,
    fake=_fake_backward,
    backward=not_twice_differentiable,
)

EDGE_CONV = register_op(
    "edge_conv",
    Implementation("cpu", _cpu_edges, _why_not),
    Implementation("reference", _reference, runs_anything),
)
