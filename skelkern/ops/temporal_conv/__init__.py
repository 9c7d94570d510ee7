"""Convolution along time, with the batch normalisation and ReLU before it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.autocast import follow_autocast
from skelkern.checks import check_alike, check_count, check_number, check_same, check_shape, check_tensor
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.memory import empty_output
from skelkern.ops.block_tail import channel_statistics
from skelkern.ops.temporal_conv import reference
from skelkern.registration import address, addresses, float32, not_twice_differentiable, register
from skelkern.statistics import update_running


@dataclass(frozen=True)
class NormRelu:
    """A batch normalisation and a ReLU: the arguments of `torch.nn.functional.batch_norm`.

    The running statistics are changed in place when training.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5


def temporal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    *,
    norm: NormRelu | None = None,
    with_statistics: bool = False,
    impl: str = "auto",
) -> Any:
    """Convolution of every joint's features along time, (kernel, 1) in the terms of `torch.nn.functional.conv2d`.

    The kernel neither copies taps nor keeps anything but its arguments for backward; "auto" leaves small clips to
    torch, where it was measured to be as fast. With `norm` the convolution reads relu(batch_norm(x)), which is never
    stored: backward makes it again from x. From 16 channels on it filters minimally, where NaN and infinity may reach
    two frames further than the taps. Under autocast x, weight and bias are cast to the autocast dtype; the kernel
    itself computes in float32.

    Sources: the temporal convolution of ST-GCN, Yan et al., AAAI 2018, section 3.3; minimal filtering, Lavin and Gray,
    CVPR 2016.

    Args:
        x: (N, C, T, V).
        weight: (C', C, K) or (C', C, K, 1).
        bias: (C') or None.
        stride: between the frames of the result, in frames of x.
        padding: frames of zeros before and after x, behind the normalisation.
        dilation: between the taps, in frames.
        norm: normalisation and ReLU before the convolution.
        with_statistics: also return mean and biased variance of the result's channels, which have no gradient; for the
            `statistics` of `skelkern.block_tail`.
        impl: "auto", "reference" or "cpu"; see `skelkern.explain`.

    Returns:
        (N, C', T', V) with T' = ⌊(T + 2 padding − dilation (K − 1) − 1) / stride⌋ + 1, in x's dtype, differentiable by
        x, weight, bias and the weight and bias of `norm`; with statistics (y, mean (C'), variance (C')).

    Raises:
        TypeError: an argument is no floating-point tensor, or the dtypes differ.
        ValueError: shapes, devices or sizes do not fit.
    """
    x, weight, bias = follow_autocast(x, weight, bias)
    _check(x, weight, bias)
    check_count("stride", stride, 1, x.shape[2] + 2**20)
    check_count("padding", padding, 0, 2**20)
    check_count("dilation", dilation, 1, 2**20)
    if x.shape[3] == 0:
        raise ValueError(f"x: expected at least one joint, found {tuple(x.shape)}")
    if _frames(x.shape[2], weight.shape[2], stride, padding, dilation) < 1:
        raise ValueError(
            f"x: expected at least {dilation * (weight.shape[2] - 1) + 1} frames with the padding, "
            f"found {x.shape[2] + 2 * padding}"
        )
    statistics = _statistics(x, norm)
    affine = (None, None) if norm is None else (norm.weight, norm.bias)
    run = TEMPORAL_CONV.choose(impl, x, weight, bias, *(() if norm is None else affine))
    if x.numel() == 0 or weight.numel() == 0:
        run = _reference
    options = (stride, padding, dilation, norm is not None, norm is not None and norm.training)
    y, *found = run(x, *statistics, *affine, weight, bias, *options, 0.0 if norm is None else norm.eps, with_statistics)
    if norm is not None and norm.training and x.numel() > 0:
        count = x.numel() // x.shape[1]
        update_running(norm.running_mean, norm.running_var, found[2], found[3], count, norm.momentum)
    return (y, found[0], found[1]) if with_statistics else y


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    check_alike(x=x, weight=weight, bias=bias)
    sizes: dict[str, int] = {}
    check_shape("x", x, "N C T V", sizes)
    check_shape("weight", weight, "C' C K" if weight.dim() == 3 else "C' C K 1", sizes)
    if bias is not None:
        check_shape("bias", bias, "C'", sizes)


def _statistics(x: Tensor, norm: NormRelu | None) -> tuple[Tensor | None, Tensor | None]:
    """Checks `norm`; the statistics that are not those of x."""
    if norm is None:
        return None, None
    named = {name: getattr(norm, name) for name in ("running_mean", "running_var", "weight", "bias")}
    for name, tensor in named.items():
        if tensor is not None:
            check_tensor(f"norm.{name}", tensor)
            check_shape(f"norm.{name}", tensor, "C", {"C": x.shape[1]})
            check_same("device", "x", x, **{f"norm.{name}": tensor})
    check_number("norm.momentum", norm.momentum, 0, 1)
    check_number("norm.eps", norm.eps, low=0)
    if (norm.weight is None) != (norm.bias is None):
        raise ValueError("norm: expected weight and bias or neither, found one of them")
    if norm.training:
        if x.numel() == x.shape[1] > 0:
            raise ValueError(f"x: expected more than one value per channel when training, found {tuple(x.shape)}")
        return None, None
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("norm: expected running statistics when not training, found None")
    return norm.running_mean, norm.running_var


Result = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # y and its mean and variance, x's mean and variance


def _reference(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *options: Any,
) -> Result:
    stride, padding, dilation, normalised, _, eps, with_statistics = options
    wide = torch.promote_types(x.dtype, torch.float32)
    mean, variance, gamma, beta = (None if t is None else t.to(wide) for t in (mean, variance, gamma, beta))
    source, nothing = x, x.new_empty(0)
    of_x = of_y = nothing, nothing
    with torch.autocast(x.device.type, enabled=False):
        if normalised:
            source, x_mean, x_variance = reference.normalise(x.to(wide), mean, variance, gamma, beta, eps)
            of_x = x_mean, x_variance
        y = reference.temporal_conv(source.to(x.dtype), weight, bias, stride, padding, dilation)
        if with_statistics:
            of_y = reference.statistics(y)
    return y, of_y[0], of_y[1], of_x[0], of_x[1]


SMALLEST = 2**20  # elements of x


def torch_is_as_fast(*tensors: Tensor | None) -> tuple[str, ...]:
    """Reasons, measured on 2 cores, for which torch's convolution is used; tensors: x, weight and perhaps bias.

    With more of them, those of a normalisation before the convolution, the kernel is faster at any size.
    """
    if 2 <= len(tensors) <= 3 and tensors[0] is not None and tensors[0].numel() < SMALLEST:
        return (f"torch's convolution is as fast below {SMALLEST} elements",)
    return ()


def _kernel(x: Tensor, *rest: Any) -> Result:
    return temporal_conv_cpu(x, *rest)[:5]


def _sizes(x: Tensor, weight: Tensor, options: tuple[int, int, int]) -> tuple[int, ...]:
    """(n, c, t, v, c_out, kernel, stride, padding, dilation) as the kernel takes them."""
    return (*x.shape, weight.shape[0], weight.shape[2], *options)


def _rows(x: Tensor) -> tuple[int, int, int]:
    """(n, c, length) as the kernels of `block_tail` take them."""
    return x.shape[0], x.shape[1], x.shape[2] * x.shape[3]


def _frames(t: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (t + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _run_forward(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
    normalised: bool,
    training: bool,
    eps: float,
    with_statistics: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    data, kernel, threads = float32(x), float32(weight), torch.get_num_threads()
    n, _, t, v = x.shape
    of_x = _statistics_of(data, mean, variance, eps, normalised)
    scale, shift = _affine(of_x[2], gamma, beta)
    y = empty_output(n, weight.shape[0], _frames(t, weight.shape[2], stride, padding, dilation), v)
    of_y = [torch.empty(weight.shape[0] if with_statistics else 0) for _ in range(2)]
    arrays = (data, of_x[0], scale, shift) if normalised else (data, None, None, None)
    inputs = (*arrays, kernel, float32(bias))
    written = addresses(y, *(of_y if with_statistics else (None, None)))
    _cpu.temporal_conv_forward(addresses(*inputs), _sizes(x, weight, (stride, padding, dilation)), threads, *written)
    return y.to(x.dtype), of_y[0], of_y[1], *of_x


def _statistics_of(
    x: Tensor, mean: Tensor | None, variance: Tensor | None, eps: float, normalised: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and inverse deviation of the channels of x; empty where it is not normalised."""
    if not normalised:
        return torch.empty(0), torch.empty(0), torch.empty(0)
    if mean is None or variance is None:
        mean, variance = channel_statistics(x)
    else:
        mean, variance = (value.detach().to(torch.float32, copy=True) for value in (mean, variance))
    return mean, variance, (variance + eps).rsqrt()


def _affine(inverse_std: Tensor, gamma: Tensor | None, beta: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scale and shift of (x − mean)."""
    if gamma is None or beta is None:
        return inverse_std, torch.zeros_like(inverse_std)
    return inverse_std * gamma.detach().to(torch.float32), beta.detach().to(torch.float32).contiguous()


def _fake_forward(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    weight, (stride, padding, dilation) = rest[4], rest[6:9]
    normalised, with_statistics = rest[9], rest[12]
    n, c, t, v = x.shape
    y = x.new_empty(n, weight.shape[0], _frames(t, weight.shape[2], stride, padding, dilation), v)
    channels = weight.shape[0] if with_statistics else 0
    y_mean, y_variance = (x.new_empty(channels, dtype=torch.float32) for _ in range(2))
    mean, variance, inverse_std = (x.new_empty(c if normalised else 0, dtype=torch.float32) for _ in range(3))
    return y, y_mean, y_variance, mean, variance, inverse_std


def _run_backward(
    y_gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
    options: list[int],
    normalised: bool,
    training: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    data, kernel, incoming, threads = float32(x), float32(weight), float32(y_gradient), torch.get_num_threads()
    shapes = (x.shape, x.shape[1:2], x.shape[1:2], weight.shape, weight.shape[:1])
    before_norm = any(wanted[:3])
    gradients = [
        empty_output(*shape) if each else None for shape, each in zip(shapes, [before_norm, *wanted[1:]], strict=True)
    ]
    of_x, of_gamma, of_beta, of_weight, of_bias = gradients
    scale, shift = _affine(inverse_std, gamma, beta)
    arrays = (data, mean, scale, shift) if normalised else (data, None, None, None)
    sizes = _sizes(x, weight, (options[0], options[1], options[2]))
    results = addresses(of_x, of_weight, of_bias)
    _cpu.temporal_conv_backward(addresses(*arrays, kernel, None), sizes, threads, address(incoming), results)
    if normalised and of_x is not None:
        source = addresses(data, mean, inverse_std, float32(gamma), float32(beta), None)
        _cpu.block_tail_backward(
            *(source, _rows(x), 0.0, 0, True, threads, training, 0, address(of_x)),
            addresses(of_x, of_gamma, of_beta, None),
        )
    dtypes = _gradient_dtypes(x, gamma, weight)
    a, b, c, d, e = (
        torch.empty(0, dtype=dtype) if gradient is None or not each else gradient.to(dtype)
        for gradient, each, dtype in zip(gradients, wanted, dtypes, strict=True)
    )
    return a, b, c, d, e


def _gradient_dtypes(x: Tensor, gamma: Tensor | None, weight: Tensor) -> tuple[torch.dtype, ...]:
    """Of x, gamma, beta, weight and bias."""
    affine = torch.float32 if gamma is None else gamma.dtype
    return x.dtype, affine, affine, weight.dtype, weight.dtype


def _fake_backward(y_gradient: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    gamma, weight, wanted = rest[2], rest[4], rest[-1]
    shapes = (x.shape, x.shape[1:2], x.shape[1:2], weight.shape, weight.shape[:1])
    a, b, c, d, e = (
        x.new_empty(shape if each else (0,), dtype=dtype)
        for shape, each, dtype in zip(shapes, wanted, _gradient_dtypes(x, gamma, weight), strict=True)
    )
    return a, b, c, d, e


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, _, gamma, beta, weight, _, *options = inputs
    ctx.options, (ctx.normalised, ctx.training) = options[:3], options[3:5]
    ctx.save_for_backward(x, output[3], output[5], gamma, beta, weight)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, y_gradient: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of y alone: the statistics have none."""
    if y_gradient is None:
        return (None,) * 14
    needs = ctx.needs_input_grad
    wanted = [needs[i] for i in (0, 3, 4, 5, 6)]
    options = (ctx.options, ctx.normalised, ctx.training, wanted)
    found = temporal_conv_cpu_backward(y_gradient, *ctx.saved_tensors, *options)
    x, gamma, beta, weight, bias = (gradient if each else None for gradient, each in zip(found, wanted, strict=True))
    return x, None, None, gamma, beta, weight, bias, *(None,) * 7


temporal_conv_cpu = register(
    "temporal_conv_cpu(Tensor x, Tensor? mean, Tensor? variance, Tensor? gamma, Tensor? beta, Tensor weight,"
    " Tensor? bias, int stride, int padding, int dilation, bool normalised, bool training, float eps,"
    " bool with_statistics) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    device="CPU",
    run=_run_forward,
    fake=_fake_forward,
    backward=_backward,
    save=_save,
)

temporal_conv_cpu_backward = register(
    "temporal_conv_cpu_backward(Tensor y_gradient, Tensor x, Tensor mean, Tensor inverse_std, Tensor? gamma,"
    " Tensor? beta, Tensor weight, int[] options, bool normalised, bool training, bool[] wanted)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    device="CPU",
    run=_run_backward,
    fake=_fake_backward,
    backward=not_twice_differentiable,
)

TEMPORAL_CONV = register_op(
    "temporal_conv",
    Implementation("cpu", _kernel, cpu_kernel_why_not, torch_is_as_fast),
    Implementation("reference", _reference, runs_anything),
)
