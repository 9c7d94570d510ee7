"""Redundancy-reduction (Barlow Twins) loss without the D x D matrix."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.checks import check_number, check_same, check_shape, check_tensor
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.gpu import interpreter_is_slow, triton_kernel_why_not
from skelkern.memory import empty_output
from skelkern.ops.cross_correlation import reference
from skelkern.registration import address, float32, register_with_gradient


def cross_correlation_loss(
    z1: Tensor, z2: Tensor, off_diagonal_weight: float, eps: float = 1e-5, *, impl: str = "auto"
) -> Tensor:
    """Cross-correlation loss of two batches of embeddings.

    Each feature is standardised over the batch (biased variance); with C = z1ᵀ z2 / N the loss is
    Σᵢ (1 − Cᵢᵢ)² + off_diagonal_weight · Σ_{i≠j} Cᵢⱼ². The kernel forms no D x D array when N < D: it keeps two N x N
    products and five numbers per feature for backward. Equal inputs on either side of a batch normalisation without
    affine part give the same loss, so a projector needs none at its end.

    Source: Zbontar et al., "Barlow Twins", ICML 2021, eq. 1 and 2; PSTL uses off_diagonal_weight = 2e-4.

    Args:
        z1: (N, D) embeddings, N ≥ 2.
        z2: (N, D) embeddings of the same samples in another view.
        off_diagonal_weight: λ ≥ 0, weight of the off-diagonal terms.
        eps: added to the variance.
        impl: "auto", "reference", "cpu" or "triton"; see `skelkern.explain`.

    Returns:
        A float32 scalar (float64 for float64 inputs); NaN for an empty batch.

    Raises:
        TypeError: an argument is no floating-point tensor, or the dtypes differ.
        ValueError: shapes or devices differ, or N is 1.
    """
    _check(z1, z2, off_diagonal_weight, eps)
    if z1.shape[0] == 0:
        return (z1.sum() + z2.sum()) * torch.nan
    run = CROSS_CORRELATION.choose(impl, z1, z2)
    return run(z1, z2, float(off_diagonal_weight), float(eps))


def _check(z1: Tensor, z2: Tensor, off_diagonal_weight: float, eps: float) -> None:
    sizes: dict[str, int] = {}
    for name, z in (("z1", z1), ("z2", z2)):
        check_tensor(name, z)
        check_shape(name, z, "N D", sizes)
    check_same("dtype", "z1", z1, z2=z2)
    check_same("device", "z1", z1, z2=z2)
    check_number("off_diagonal_weight", off_diagonal_weight, low=0)
    check_number("eps", eps, low=0)
    if sizes["N"] == 1:
        raise ValueError("z1: expected at least 2 samples to standardise over, found 1")


def _reference(z1: Tensor, z2: Tensor, off_diagonal_weight: float, eps: float) -> Tensor:
    wide = torch.promote_types(z1.dtype, torch.float32)
    with torch.autocast(z1.device.type, enabled=False):
        return reference.cross_correlation_loss(z1.to(wide), z2.to(wide), off_diagonal_weight, eps)


def _cpu_loss(z1: Tensor, z2: Tensor, off_diagonal_weight: float, eps: float) -> Tensor:
    return cross_correlation_cpu(z1, z2, off_diagonal_weight, eps)[0]


def _triton_loss(*arguments: Any) -> Tensor:
    from skelkern.ops.cross_correlation import triton

    return triton.loss(*arguments)


def _run_forward(z1: Tensor, z2: Tensor, off_diagonal_weight: float, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    n, d = z1.shape
    x1, x2 = float32(z1), float32(z2)
    loss, statistics, products = torch.zeros(()), torch.empty(5, d), torch.empty(_products_shape(n, d))
    if d > 0:
        arguments = (address(x1), address(x2), n, d, off_diagonal_weight, eps)
        results = (address(statistics), address(products))
        loss.fill_(_cpu.cross_correlation_forward(*arguments, *results, torch.get_num_threads()))
    return loss, statistics, products


def _products_shape(n: int, d: int) -> tuple[int, int, int]:
    return (2, n, n) if n < d else (1, d, d)


def fake_forward(z1: Tensor, z2: Tensor, off_diagonal_weight: float, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    n, d = z1.shape
    shapes = ((), (5, d), _products_shape(n, d))
    loss, statistics, products = (torch.empty(shape, dtype=torch.float32, device=z1.device) for shape in shapes)
    return loss, statistics, products


def _run_backward(
    loss_gradient: Tensor,
    z1: Tensor,
    z2: Tensor,
    statistics: Tensor,
    products: Tensor,
    off_diagonal_weight: float,
    wanted: list[bool],
) -> tuple[Tensor, Tensor]:
    n, d = z1.shape
    x1, x2 = float32(z1), float32(z2)
    gradient1, gradient2 = (empty_output(*((n, d) if each else (0, 0))) for each in wanted)
    if d > 0:
        _cpu.cross_correlation_backward(
            *(address(x1), address(x2), n, d, off_diagonal_weight),
            *(address(statistics), address(products), loss_gradient.item()),
            *(address(gradient1), address(gradient2), torch.get_num_threads()),
        )
    return gradient1.to(z1.dtype), gradient2.to(z2.dtype)


def fake_backward(loss_gradient: Tensor, z1: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    gradient1, gradient2 = (z1.new_empty(z1.shape if each else (0, 0)) for each in rest[-1])
    return gradient1, gradient2


def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    z1, z2, ctx.off_diagonal_weight, _ = inputs
    ctx.save_for_backward(z1, z2, *output[1:])
    ctx.set_materialize_grads(False)


def gradient_formula(backward_kernel: Any) -> Callable[..., Any]:
    """The formula of an op of this module's `SCHEMA`, by one of its `BACKWARD_SCHEMA`."""

    def backward(ctx: Any, loss: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        if loss is None:
            return (None,) * 4
        wanted = list(ctx.needs_input_grad[:2])
        gradients = backward_kernel(loss, *ctx.saved_tensors, ctx.off_diagonal_weight, wanted)
        gradient1, gradient2 = (gradient if each else None for gradient, each in zip(gradients, wanted, strict=True))
        return gradient1, gradient2, None, None

    return backward


SCHEMA = "(Tensor z1, Tensor z2, float off_diagonal_weight, float eps) -> (Tensor, Tensor, Tensor)"
BACKWARD_SCHEMA = (
    "(Tensor loss_gradient, Tensor z1, Tensor z2, Tensor statistics, Tensor products, float off_diagonal_weight,"
    " bool[] wanted) -> (Tensor, Tensor)"
)

cross_correlation_cpu = register_with_gradient(
    "cross_correlation_cpu",
    (SCHEMA, BACKWARD_SCHEMA),
    device="CPU",
    run=_run_forward,
    fake=fake_forward,
    save=save,
    run_backward=_run_backward,
    fake_backward=fake_backward,
    formula=gradient_formula,
)

CROSS_CORRELATION = register_op(
    "cross_correlation_loss",
    Implementation("triton", _triton_loss, triton_kernel_why_not, interpreter_is_slow),
    Implementation("cpu", _cpu_loss, cpu_kernel_why_not),
    Implementation("reference", _reference, runs_anything),
)
