"""InfoNCE against a queue of negatives without the array of all similarities."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.checks import check_choice, check_number, check_same, check_shape, check_tensor
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.gpu import interpreter_is_slow, triton_kernel_why_not
from skelkern.ops.info_nce import reference
from skelkern.registration import address, float32, register_with_gradient

MULTI_POSITIVE = ("log_sum", "mean_log")
REDUCTIONS = ("mean", "sum", "none")


def info_nce(
    query: Tensor,
    positives: Tensor,
    queue: Tensor,
    temperature: float = 0.07,
    multi_positive: str = "log_sum",
    *,
    reduction: str = "mean",
    impl: str = "auto",
) -> Tensor:
    """Contrastive loss of queries against their positives and a queue of negatives shared by all of them.

    With S = Σₚ exp(q·kₚ/τ) + Σⱼ exp(q·queueⱼ/τ) the loss of a query is −log(Σₚ exp(q·kₚ/τ) / S) for "log_sum" and
    −meanₚ log(exp(q·kₚ/τ) / S) for "mean_log"; with one positive both are −log softmax. Vectors are taken as they are:
    normalise them for cosine similarities. The kernel reads the queue once, in blocks, with a running maximum; the same
    pass yields the gradients, so that the queue, which gets none, may be overwritten before backward.

    Source: van den Oord et al., 2018, eq. 4; He et al., "MoCo", CVPR 2020, eq. 1; log_sum with positives of several
    granularities: Dong et al., "HiCo", AAAI 2023.

    Args:
        query: (N, D).
        positives: (N, D), or (N, P, D) with P ≥ 1 positives of each query.
        queue: (K, D), one key a row; K may be 0.
        temperature: τ > 0.
        multi_positive: "log_sum" or "mean_log".
        reduction: "mean", "sum" or "none" over the queries.
        impl: "auto", "reference", "cpu" or "triton"; see `skelkern.explain`.

    Returns:
        A float32 scalar, (N) for "none" (float64 for float64 inputs); the mean of an empty batch is NaN.

    Raises:
        TypeError: an argument is no floating-point tensor, or the dtypes differ.
        ValueError: shapes or devices do not fit, P is 0, or an option is unknown.
    """
    positives = positives.unsqueeze(1) if isinstance(positives, Tensor) and positives.dim() == 2 else positives
    _check(query, positives, queue, temperature)
    check_choice("multi_positive", multi_positive, MULTI_POSITIVE)
    check_choice("reduction", reduction, REDUCTIONS)
    run = INFO_NCE.choose(impl, query, positives, queue)
    loss = run(query, positives, queue, float(temperature), multi_positive)
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def _check(query: Tensor, positives: Tensor, queue: Tensor, temperature: float) -> None:
    sizes: dict[str, int] = {}
    for name, tensor, pattern in (("query", query, "N D"), ("positives", positives, "N P D"), ("queue", queue, "K D")):
        check_tensor(name, tensor)
        check_shape(name, tensor, pattern, sizes)
    for what in ("dtype", "device"):
        check_same(what, "query", query, positives=positives, queue=queue)
    check_number("temperature", temperature, low=0)
    if temperature == 0:
        raise ValueError("temperature: expected a number above 0, found 0")
    if sizes["P"] == 0:
        raise ValueError("positives: expected at least one positive for each query, found none")


def _reference(query: Tensor, positives: Tensor, queue: Tensor, temperature: float, multi_positive: str) -> Tensor:
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        return reference.info_nce(query.to(wide), positives.to(wide), queue.to(wide), temperature, multi_positive)


def kernel_loss(
    kernel: Any, query: Tensor, positives: Tensor, queue: Tensor, temperature: float, multi_positive: str
) -> Tensor:
    """Loss of every query (N) by the op `kernel`, of this module's `SCHEMA`."""
    wants_gradient = torch.is_grad_enabled() and query.requires_grad
    return kernel(query, positives, queue.detach(), temperature, multi_positive == "mean_log", wants_gradient)[0]


def _cpu_loss(query: Tensor, positives: Tensor, queue: Tensor, temperature: float, multi_positive: str) -> Tensor:
    return kernel_loss(info_nce_cpu, query, positives, queue, temperature, multi_positive)


def _triton_loss(*arguments: Any) -> Tensor:
    from skelkern.ops.info_nce import triton

    return triton.loss(*arguments)


def _run(
    query: Tensor, positives: Tensor, queue: Tensor, temperature: float, mean_log: bool, query_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    (n, d), p, k = query.shape, positives.shape[1], queue.shape[0]
    own, others, keys = float32(query), float32(positives), float32(queue)
    loss, weights = torch.zeros(n), torch.empty(n, p)
    gradient = torch.empty((n, d) if query_gradient else (0, 0))
    if n > 0:
        _cpu.info_nce(
            *(address(own), address(others), address(keys), (n, d, p, k)),
            *(temperature, mean_log, torch.get_num_threads()),
            *(address(loss), address(gradient), address(weights)),
        )
    return loss, gradient, weights


def fake(
    query: Tensor, positives: Tensor, queue: Tensor, temperature: float, mean_log: bool, query_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    n, d = query.shape
    shapes = ((n,), (n, d) if query_gradient else (0, 0), (n, positives.shape[1]))
    loss, gradient, weights = (query.new_empty(shape, dtype=torch.float32) for shape in shapes)
    return loss, gradient, weights


def run_backward(
    loss_gradient: Tensor, query: Tensor, gradient: Tensor, weights: Tensor, wanted: list[bool]
) -> tuple[Tensor, Tensor]:
    of_query = (loss_gradient[:, None] * gradient).to(query.dtype) if wanted[0] else query.new_empty(0, 0)
    if not wanted[1]:
        return of_query, query.new_empty(0, 0, 0)
    of_positives = (loss_gradient[:, None] * weights)[:, :, None] * query[:, None, :]
    return of_query, of_positives.to(query.dtype)


def fake_backward(
    loss_gradient: Tensor, query: Tensor, gradient: Tensor, weights: Tensor, wanted: list[bool]
) -> tuple[Tensor, Tensor]:
    (n, d), p = query.shape, weights.shape[1]
    return (
        query.new_empty((n, d) if wanted[0] else (0, 0)),
        query.new_empty((n, p, d) if wanted[1] else (0, 0, 0)),
    )


def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[0], *output[1:])
    ctx.set_materialize_grads(False)


def gradient_formula(backward_kernel: Any) -> Callable[..., Any]:
    """The formula of an op of this module's `SCHEMA`, by one of its `BACKWARD_SCHEMA`."""

    def backward(ctx: Any, loss: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        if loss is None:
            return (None,) * 6
        wanted = list(ctx.needs_input_grad[:2])
        gradients = backward_kernel(loss, *ctx.saved_tensors, wanted)
        of_query, of_positives = (gradient if each else None for gradient, each in zip(gradients, wanted, strict=True))
        return of_query, of_positives, None, None, None, None

    return backward


SCHEMA = (
    "(Tensor query, Tensor positives, Tensor queue, float temperature, bool mean_log, bool query_gradient)"
    " -> (Tensor, Tensor, Tensor)"
)
BACKWARD_SCHEMA = (
    "(Tensor loss_gradient, Tensor query, Tensor gradient, Tensor weights, bool[] wanted) -> (Tensor, Tensor)"
)

info_nce_cpu = register_with_gradient(
    "info_nce_cpu",
    (SCHEMA, BACKWARD_SCHEMA),
    device="CPU",
    run=_run,
    fake=fake,
    save=save,
    run_backward=run_backward,
    fake_backward=fake_backward,
    formula=gradient_formula,
)

INFO_NCE = register_op(
    "info_nce",
    Implementation("triton", _triton_loss, triton_kernel_why_not, interpreter_is_slow),
    Implementation("cpu", _cpu_loss, cpu_kernel_why_not),
    Implementation("reference", _reference, runs_anything),
)
