"""The ops of a compiled edge convolution, forward and backward, the same for every device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from skelkern.processes import group_name
from skelkern.registration import float32, not_twice_differentiable, register

MOST_NEIGHBORS = 256  # a slot is a byte

Edges = tuple[Tensor, Tensor, Tensor, Tensor]  # y, mean and biased variance (C'), number of edges


def register_kernels(
    name: str, run_forward: Callable[..., Any], run_backward: Callable[..., Any]
) -> Callable[..., Any]:
    """Registers `skelkern::edge_conv_<name>` and its backward; returns the function to `Edges`.

    Args:
        name: of the implementation and, in capitals, of the device.
        run_forward: computes y, mean, variance and number of edges and, where the last argument says so, keeps
            extremes, their slots and the sums of edges for backward; a GPU also keeps each point's number of edges.
        run_backward: gradients of x, weight, gamma and beta; of x only where the last argument says so.
    """
    counts_points = name == "cuda"
    one_more, counts = (", Tensor", " Tensor counts,") if counts_points else ("", "")

    def fake_forward(x: Tensor, neighbors: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        mean, variance = (x.new_empty(weight.shape[0], dtype=torch.float32) for _ in range(2))
        y = x.new_empty(*x.shape[:2], weight.shape[0])
        results = empty_results(x, weight, rest[-1], counts_points)
        return y, mean, variance, x.new_empty((), dtype=torch.float64), *results

    def backward(ctx: Any, y_gradient: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        if y_gradient is None:
            return (None,) * 12
        needed = ctx.needs_input_grad
        of_x, *others = backward_op(y_gradient, *ctx.saved_tensors, *ctx.options, needed[0])
        of_weight, of_gamma, of_beta = (of if needed[i] else None for i, of in zip((2, 3, 4), others, strict=True))
        return of_x if needed[0] else None, None, of_weight, of_gamma, of_beta, *(None,) * 7

    forward_op = register(
        f"edge_conv_{name}(Tensor x, Tensor neighbors, Tensor weight, Tensor gamma, Tensor beta, Tensor? mean,"
        " Tensor? variance, Tensor? mask, float eps, float negative_slope, str group, bool keeps)"
        f" -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor{one_more})",
        device=name.upper(),
        run=run_forward,
        fake=fake_forward,
        backward=backward,
        save=_save,
    )
    backward_op = register(
        f"edge_conv_{name}_backward(Tensor y_gradient, Tensor x, Tensor neighbors, Tensor weight, Tensor gamma,"
        " Tensor beta, Tensor? mask, Tensor mean, Tensor variance, Tensor count, Tensor extremes, Tensor slots,"
        f" Tensor sums,{counts} float eps, float negative_slope, str group, bool through_statistics,"
        " bool wants_x) -> (Tensor, Tensor, Tensor, Tensor)",
        device=name.upper(),
        run=run_backward,
        fake=_fake_backward,
        backward=not_twice_differentiable,
    )

    def edges(*arguments: Any) -> Edges:
        *most, group = arguments
        keeps = torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in most)
        y, mean, variance, count, *_ = forward_op(*most, group_name(group), keeps)
        return y, mean, variance, count

    return edges


def empty_results(x: Tensor, weight: Tensor, keeps: bool, counts_points: bool) -> tuple[Tensor, ...]:
    """Extremes, slots and sums (B, N, C'), empty unless kept; on request the number of each point's edges (B, N)."""
    shape = (*x.shape[:2], weight.shape[0]) if keeps else (0,)
    extremes, sums = (x.new_empty(shape, dtype=torch.float32) for _ in range(2))
    kept = extremes, x.new_empty(shape, dtype=torch.uint8), sums
    return (*kept, x.new_empty(x.shape[:2], dtype=torch.int32)) if counts_points else kept


def check_index(neighbors: Tensor, count: int) -> None:
    wrong = neighbors[(neighbors < 0) | (neighbors >= count)]
    if wrong.numel() > 0:
        raise ValueError(f"neighbors: expected values in [0, {count}), found {wrong[0].item()}")


def check_edges(count: float) -> None:
    if count <= 1:
        raise ValueError(f"neighbors: expected more than one edge to take statistics of, found {int(count)}")


def too_many_neighbors(*tensors: Tensor | None) -> tuple[str, ...]:
    """What the kernels have against a call's number of neighbours."""
    neighbors = tensors[1] if len(tensors) > 1 else None
    if neighbors is not None and neighbors.dim() == 3 and neighbors.shape[2] > MOST_NEIGHBORS:
        return (f"{neighbors.shape[2]} neighbours, more than {MOST_NEIGHBORS}",)
    return ()


def given_statistics(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Copies in float32, as results may not be arguments."""
    copies = (value.detach().to(torch.float32, copy=True) for value in (mean, variance))
    return next(copies), next(copies)


def statistics_of(total: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C') float32 of (1 + 2 C') numbers: of edges, means, sums of squared deviations."""
    mean, squares = total[1:].chunk(2)
    return mean.float(), (squares / total[0]).float()


def tail_of(mean: Tensor, variance: Tensor, eps: float, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, inverse standard deviation and shift as the kernels take them."""
    return mean, (variance + eps).rsqrt(), float32(beta)


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
