"""Batch normalisation, dropout, residual and ReLU in one op."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.checks import check_number, check_same, check_shape, check_tensor
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.gpu import interpreter_is_slow, triton_kernel_why_not
from skelkern.memory import empty_output
from skelkern.ops.block_tail import reference
from skelkern.registration import address, addresses, float32, register_with_gradient
from skelkern.statistics import update_running


def block_tail(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    relu: bool = True,
    statistics: tuple[Tensor, Tensor] | None = None,
    impl: str = "auto",
) -> Tensor:
    """The tail of a convolution block: relu(dropout(batch_norm(x)) + residual).

    The first arguments, and what happens to the running statistics, are those of `torch.nn.functional.batch_norm`. The
    kernel reads x twice, writes y once and keeps at most x and y for backward: neither the normalised values nor the
    dropout mask, which is a pure function of the seed and an element's place (Philox4x32-10) and is made again.

    Source: Ioffe and Szegedy, "Batch Normalization", ICML 2015; Srivastava et al., "Dropout", JMLR 2014; the order is
    that of ST-GCN's unit (Yan et al., AAAI 2018).

    Args:
        x: (N, C, *).
        running_mean: (C) or None; changed in place when training.
        running_var: (C) or None; as running_mean, unbiased.
        weight: (C) scale, or None together with bias.
        bias: (C) shift, or None.
        residual: as x, added after dropout; or None.
        training: normalise by the statistics of x (biased variance) instead of the running ones.
        momentum: share of x's statistics in the new running ones.
        eps: added to the variance.
        dropout: probability in [0, 1) of an element to become 0; the others are scaled by 1 / (1 − dropout). Applied
            wherever it is above 0, whatever `training` says.
        seed: int64 scalar tensor, a new one for every call; needed when dropout is above 0.
        relu: whether the ReLU is applied.
        statistics: when training, mean and biased variance (C) of x where they are known already, from
            `skelkern.temporal_conv` for example; gradients go through x's statistics all the same.
        impl: "auto", "reference", "cpu" or "triton"; see `skelkern.explain`.

    Returns:
        As x, differentiable by x, weight, bias and residual.

    Raises:
        TypeError: an argument is no floating-point tensor (the seed: no int64 one), or x and residual differ in dtype.
        ValueError: shapes or devices do not fit, running statistics or the seed are missing where they are needed, or
            there is only one value per channel to compute statistics of.
    """
    if residual is not None and torch.is_autocast_enabled(x.device.type):
        residual = residual.to(x.dtype)
    _check(x, running_mean, running_var, weight, bias, residual, training)
    _check_dropout(x, dropout, seed)
    check_number("momentum", momentum, 0, 1)
    check_number("eps", eps, low=0)
    mean, variance = _statistics(x, statistics) if training else (running_mean, running_var)
    run = BLOCK_TAIL.choose(impl, x, running_mean, running_var, weight, bias, residual, seed)
    if x.numel() == 0:
        return x + 0 if residual is None else x + residual
    tensors = (x, mean, variance, weight, bias, residual, seed if dropout > 0 else None)
    y, mean, variance = run(*tensors, float(dropout), float(eps), relu, training)
    if training:
        update_running(running_mean, running_var, mean, variance, x.numel() // x.shape[1], momentum)
    return y


def _check(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    training: bool,
) -> None:
    check_tensor("x", x)
    if x.dim() < 2:
        raise ValueError(f"x: expected (N, C, *), found {tuple(x.shape)}")
    by_channel = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, tensor in by_channel.items():
        if tensor is not None:
            check_tensor(name, tensor)
            check_shape(name, tensor, "C", {"C": x.shape[1]})
            check_same("device", "x", x, **{name: tensor})
    if (weight is None) != (bias is None):
        raise ValueError(
            f"bias: expected with weight or not at all, found {'weight' if bias is None else 'bias'} alone"
        )
    if not training and (running_mean is None or running_var is None):
        raise ValueError("running_mean, running_var: expected tensors when not training, found None")
    if training and x.numel() == x.shape[1] > 0:
        raise ValueError(f"x: expected more than one value per channel when training, found {tuple(x.shape)}")
    if residual is not None:
        check_tensor("residual", residual)
        check_same("dtype", "x", x, residual=residual)
        check_same("device", "x", x, residual=residual)
        if residual.shape != x.shape:
            raise ValueError(f"residual: expected x's shape {tuple(x.shape)}, found {tuple(residual.shape)}")


def _check_dropout(x: Tensor, dropout: float, seed: Tensor | None) -> None:
    check_number("dropout", dropout, 0, 1)
    if dropout == 1:
        raise ValueError("dropout: expected less than 1, found 1")
    if dropout > 0:
        if seed is None:
            raise ValueError("seed: expected an int64 scalar tensor when dropout is above 0, found None")
        check_tensor("seed", seed, (torch.int64,))
        check_shape("seed", seed, "", {})
        check_same("device", "x", x, seed=seed)


def _statistics(x: Tensor, statistics: tuple[Tensor, Tensor] | None) -> tuple[Tensor | None, Tensor | None]:
    if statistics is None:
        return None, None
    for name, value in zip(("mean", "variance"), statistics, strict=True):
        check_tensor(f"statistics: {name}", value)
        check_shape(f"statistics: {name}", value, "C", {"C": x.shape[1]})
        check_same("device", "x", x, **{f"statistics: {name}": value})
    return statistics


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C) of the channels of x (N, C, *), at least in float32 and without gradients."""
    x = x.detach()
    if cpu_kernel_why_not(x):
        wide = torch.promote_types(x.dtype, torch.float32)
        variance, mean = torch.var_mean(x.to(wide), dim=(0, *range(2, x.dim())), correction=0)
        return mean, variance
    return _statistics_on_cpu(float32(x))


def _statistics_on_cpu(x: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = torch.empty(x.shape[1]), torch.empty(x.shape[1])
    _cpu.block_tail_statistics(address(x), sizes(x), torch.get_num_threads(), address(mean), address(variance))
    return mean, variance


Tail = tuple[Tensor, Tensor, Tensor]  # y, mean and biased variance (C)


def _reference(x: Tensor, *rest: Any) -> Tail:
    wide = torch.promote_types(x.dtype, torch.float32)
    *tensors, seed, dropout, eps, relu, of_x = rest
    mean, variance, weight, bias, residual = (None if tensor is None else tensor.to(wide) for tensor in tensors)
    if of_x:  # computed again, to be differentiated through
        mean = variance = None
    with torch.autocast(x.device.type, enabled=False):
        y, mean, variance = reference.block_tail(
            x.to(wide), mean, variance, weight, bias, residual, seed, dropout, eps, relu
        )
    return y.to(x.dtype), mean, variance


def _cpu_tail(*arguments: Any) -> Tail:
    y, mean, variance, _ = block_tail_cpu(*arguments)
    return y, mean, variance


def _triton_tail(*arguments: Any) -> Tail:
    from skelkern.ops.block_tail import triton

    return triton.tail(*arguments)


def sizes(x: Tensor) -> tuple[int, int, int]:
    """(n, c, length) as the kernels take them."""
    return x.shape[0], x.shape[1], x.shape[2:].numel()


def _run_forward(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    seed: Tensor | None,
    dropout: float,
    eps: float,
    relu: bool,
    of_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    data, threads = float32(x), torch.get_num_threads()
    if mean is None or variance is None:
        mean, variance = _statistics_on_cpu(data)
    else:
        mean, variance = (value.detach().to(torch.float32, copy=True) for value in (mean, variance))
    inverse_std = (variance + eps).rsqrt()
    inputs = (data, mean, inverse_std, float32(weight), float32(bias), float32(residual))
    y = empty_output(*x.shape)
    draws = (dropout, _word(seed), relu, threads)
    _cpu.block_tail_forward(addresses(*inputs), sizes(x), *draws, address(y))
    return y.to(x.dtype), mean, variance, inverse_std


def _word(seed: Tensor | None) -> int:
    """The seed's bits as an unsigned number."""
    return 0 if seed is None else int(seed) & (2**64 - 1)


def _fake_forward(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, variance, inverse_std = (x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(3))
    return x.new_empty(x.shape), mean, variance, inverse_std


def _run_backward(
    y_gradient: Tensor,
    x: Tensor | None,
    y: Tensor | None,
    mean: Tensor,
    inverse_std: Tensor,
    weight: Tensor | None,
    seed: Tensor | None,
    dropout: float,
    relu: bool,
    through_statistics: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    incoming, shape = float32(y_gradient), y_gradient.shape
    shapes = (shape, shape[1:2], shape[1:2], shape)
    gradients = [empty_output(*shape) if each else None for shape, each in zip(shapes, wanted, strict=True)]
    inputs = (float32(x), mean, inverse_std, float32(weight), None, None)
    output = float32(y)
    _cpu.block_tail_backward(
        addresses(*inputs),
        sizes(y_gradient),
        dropout,
        _word(seed),
        relu,
        torch.get_num_threads(),
        through_statistics,
        address(output),
        address(incoming),
        addresses(*gradients),
    )
    dtypes = gradient_dtypes(y_gradient, weight)
    filled = (
        torch.empty(0, dtype=dtype) if gradient is None else gradient.to(dtype)
        for gradient, dtype in zip(gradients, dtypes, strict=True)
    )
    x_gradient, weight_gradient, bias_gradient, residual_gradient = filled
    return x_gradient, weight_gradient, bias_gradient, residual_gradient


def gradient_dtypes(x: Tensor, weight: Tensor | None) -> tuple[torch.dtype, ...]:
    """Of x, weight, bias and residual."""
    affine = torch.float32 if weight is None else weight.dtype
    return x.dtype, affine, affine, x.dtype


def _fake_backward(y_gradient: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight, wanted, shape = rest[4], rest[-1], y_gradient.shape
    shapes = (shape, shape[1:2], shape[1:2], shape)
    x_gradient, weight_gradient, bias_gradient, residual_gradient = (
        y_gradient.new_empty(shape if each else (0,), dtype=dtype)
        for shape, each, dtype in zip(shapes, wanted, gradient_dtypes(y_gradient, weight), strict=True)
    )
    return x_gradient, weight_gradient, bias_gradient, residual_gradient


def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, _, weight, _, _, seed, ctx.dropout, _, ctx.relu, ctx.through_statistics = inputs
    y, mean, _, inverse_std = output
    reads_x = ctx.through_statistics or any(ctx.needs_input_grad[3:5])
    ctx.save_for_backward(x if reads_x else None, y if ctx.relu else None, mean, inverse_std, weight, seed)
    ctx.set_materialize_grads(False)


def gradient_formula(backward_kernel: Any) -> Callable[..., Any]:
    """The formula of an op of this module's `SCHEMA`, by one of its `BACKWARD_SCHEMA`: the statistics only go into
    running ones."""

    def backward(ctx: Any, y_gradient: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        if y_gradient is None:
            return (None,) * 11
        needs = ctx.needs_input_grad
        wanted = [needs[0], needs[3], needs[4], needs[5]]
        options = (ctx.dropout, ctx.relu, ctx.through_statistics, wanted)
        gradients = backward_kernel(y_gradient, *ctx.saved_tensors, *options)
        x, weight, bias, residual = (
            gradient if each else None for gradient, each in zip(gradients, wanted, strict=True)
        )
        return x, None, None, weight, bias, residual, None, None, None, None, None

    return backward


SCHEMA = (
    "(Tensor x, Tensor? mean, Tensor? variance, Tensor? weight, Tensor? bias, Tensor? residual, Tensor? seed,"
    " float dropout, float eps, bool relu, bool of_x) -> (Tensor, Tensor, Tensor, Tensor)"
)
BACKWARD_SCHEMA = (
    "(Tensor y_gradient, Tensor? x, Tensor? y, Tensor mean, Tensor inverse_std, Tensor? weight, Tensor? seed,"
    " float dropout, bool relu, bool through_statistics, bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor)"
)

block_tail_cpu = register_with_gradient(
    "block_tail_cpu",
    (SCHEMA, BACKWARD_SCHEMA),
    device="CPU",
    run=_run_forward,
    fake=_fake_forward,
    save=save,
    run_backward=_run_backward,
    fake_backward=_fake_backward,
    formula=gradient_formula,
)

BLOCK_TAIL = register_op(
    "block_tail",
    Implementation("triton", _triton_tail, triton_kernel_why_not, interpreter_is_slow),
    Implementation("cpu", _cpu_tail, cpu_kernel_why_not),
    Implementation("reference", _reference, runs_anything),
)
