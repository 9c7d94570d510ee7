"""HiCo's unified down-sampling module as one pass."""

from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.autocast import follow_autocast
from skelkern.checks import check_alike, check_count, check_number, check_shape
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.memory import empty_output
from skelkern.ops.unified_downsampling import reference
from skelkern.registration import address, addresses, float32, not_twice_differentiable, register

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def unified_downsampling(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    stride: int = 1,
    padding: int = 0,
    pool: int = 2,
    eps: float = 1e-5,
    *,
    impl: str = "auto",
) -> Tensor:
    """Shorter sequences for the next level of a hierarchy: depthwise convolution, layer norm, ReLU, max-pooling.

    The unified down-sampling module of HiCo (Dong et al., AAAI 2023): every channel is convolved along time by
    itself, every frame normalised over its channels, and the maximum taken over `pool` frames at a time; frames left
    over are dropped. Sequences are read as they lie, channels last, and nothing between x and the result is stored.
    Under autocast all tensors are cast to the autocast dtype; the kernel itself computes in float32.

    Args:
        x: (N, T, C).
        weight: (C, 1, K), as of a `torch.nn.Conv1d` with as many groups as channels.
        bias: (C) or None.
        gamma: (C), scale of the normalisation.
        beta: (C), its shift.
        stride: frames between two results of the convolution.
        padding: zeros before and behind the sequence, in frames.
        pool: frames of one maximum.
        eps: added to the variance.
        impl: "auto", "reference" or "cpu"; see `skelkern.explain`.

    Returns:
        (N, ((T + 2·padding - K) // stride + 1) // pool, C) in x's dtype, differentiable by all tensors. Among equal
        maxima the first frame gets the gradient. x and the parameters are kept for backward.

    Raises:
        TypeError: an argument is no floating-point tensor, or the dtypes differ.
        ValueError: shapes or devices do not fit, a number is out of its range, or the sequence is too short.
    """
    tensors = follow_autocast(x, weight, bias, gamma, beta)
    _check(*tensors)
    check_count("stride", stride, 1, 2**20)
    check_count("padding", padding, 0, 2**20)
    check_count("pool", pool, 1, 2**20)
    check_number("eps", eps, low=0)
    needed = weight.shape[2] + (pool - 1) * stride
    if x.shape[1] + 2 * padding < needed:
        raise ValueError(f"x: expected at least {needed} frames, padding included, found {x.shape[1] + 2 * padding}")
    run = UNIFIED_DOWNSAMPLING.choose(impl, *tensors)
    if x.numel() == 0:
        run = _reference
    return run(*tensors, stride, padding, pool, eps)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, gamma: Tensor, beta: Tensor) -> None:
    check_alike(x=x, weight=weight, bias=bias, gamma=gamma, beta=beta)
    sizes: dict[str, int] = {}
    check_shape("x", x, "N T C", sizes)
    check_shape("weight", weight, "C 1 K", sizes)
    if weight.numel() == 0:
        raise ValueError(f"weight: expected at least one channel and one frame, found {tuple(weight.shape)}")
    for name, tensor in {"bias": bias, "gamma": gamma, "beta": beta}.items():
        if tensor is not None:
            check_shape(name, tensor, "C", sizes)


def _reference(x: Tensor, *rest: Any) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return reference.unified_downsampling(x, *rest)


def _sizes(x: Tensor, weight: Tensor, stride: int, padding: int, pool: int) -> tuple[int, ...]:
    return (*x.shape, weight.shape[2], stride, padding, pool)


def _result_shape(x: Tensor, weight: Tensor, stride: int, padding: int, pool: int) -> tuple[int, int, int]:
    return x.shape[0], ((x.shape[1] + 2 * padding - weight.shape[2]) // stride + 1) // pool, x.shape[2]


def _run_forward(x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    *parameters, stride, padding, pool, eps = rest
    inputs = [float32(tensor) for tensor in (x, weight, *parameters)]
    steps = (stride, padding, pool)
    y = empty_output(*_result_shape(x, weight, *steps))
    sizes, threads = _sizes(x, weight, *steps), torch.get_num_threads()
    _cpu.unified_downsampling_forward(addresses(*inputs), sizes, eps, threads, address(y))
    return y.to(x.dtype)


def _fake_forward(x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(_result_shape(x, weight, *rest[3:6]))


def _shapes(x: Tensor, weight: Tensor) -> tuple[torch.Size, ...]:
    """Of the gradients by all tensors."""
    return (x.shape, weight.shape, *[weight.shape[:1]] * 3)


def _run_backward(y_gradient: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> Gradients:
    *parameters, stride, padding, pool, eps, wanted = rest
    inputs, incoming = [float32(tensor) for tensor in (x, weight, *parameters)], float32(y_gradient)
    pairs = zip(_shapes(x, weight), wanted, strict=True)
    gradients = [empty_output(*shape) if each else None for shape, each in pairs]
    sizes, threads = _sizes(x, weight, stride, padding, pool), torch.get_num_threads()
    given, found = addresses(*inputs), addresses(*gradients)
    _cpu.unified_downsampling_backward(given, sizes, eps, threads, address(incoming), found)
    of_x, of_weight, *of_rows = (x.new_empty(0) if gradient is None else gradient.to(x.dtype) for gradient in gradients)
    return of_x, of_weight, of_rows[0], of_rows[1], of_rows[2]


def _fake_backward(y_gradient: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> Gradients:
    pairs = zip(_shapes(x, weight), rest[-1], strict=True)
    of_x, of_weight, *of_rows = (x.new_empty(shape if each else (0,)) for shape, each in pairs)
    return of_x, of_weight, of_rows[0], of_rows[1], of_rows[2]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.numbers = inputs[5:]


def _backward(ctx: Any, y_gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:5])
    gradients = unified_downsampling_cpu_backward(y_gradient, *ctx.saved_tensors, *ctx.numbers, wanted)
    return (*(gradient if each else None for gradient, each in zip(gradients, wanted, strict=True)), *[None] * 4)


unified_downsampling_cpu = register(
    "unified_downsampling_cpu(Tensor x, Tensor weight, Tensor? bias, Tensor gamma, Tensor beta, int stride,"
    " int padding, int pool, float eps) -> Tensor",
    device="CPU",
    run=_run_forward,
    fake=_fake_forward,
    backward=_backward,
    save=_save,
)

unified_downsampling_cpu_backward = register(
    "unified_downsampling_cpu_backward(Tensor y_gradient, Tensor x, Tensor weight, Tensor? bias, Tensor gamma,"
    " Tensor beta, int stride, int padding, int pool, float eps, bool[] wanted)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    device="CPU",
    run=_run_backward,
    fake=_fake_backward,
    backward=not_twice_differentiable,
)

UNIFIED_DOWNSAMPLING = register_op(
    "unified_downsampling",
    Implementation("cpu", unified_downsampling_cpu, cpu_kernel_why_not),
    Implementation("reference", _reference, runs_anything),
)
