"""A linear layer, optionally with its ReLU."""

from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.autocast import follow_autocast
from skelkern.checks import check_alike, check_choice, check_shape
from skelkern.dispatch import MEASURED_LEVEL, Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.memory import empty_output
from skelkern.ops.linear import reference
from skelkern.registration import address, addresses, float32, not_twice_differentiable, register


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, *, impl: str = "auto"
) -> Tensor:
    """x Wᵀ + b, followed by a ReLU where one is asked for.

    "auto" takes the kernel where it has been measured to be faster than torch's own product: on AMD processors, with
    AVX-512 from some 67 million multiplications on, with AVX2 for at most 256 rows and at least 1.5 million weights.
    Transposed matrices are multiplied as they lie. Under autocast all arguments are cast to the autocast dtype; the
    kernel itself computes in float32.

    Args:
        x: (*, C) with any number of leading dimensions.
        weight: (C', C).
        bias: (C') or None.
        activation: "relu" or None.
        impl: "auto", "reference" or "cpu"; see `skelkern.explain`.

    Returns:
        (*, C') in x's dtype, differentiable by x, weight and bias. For backward, x and weight are kept, and the result
        where there is a ReLU.

    Raises:
        TypeError: an argument is no floating-point tensor, or the dtypes differ.
        ValueError: shapes or devices do not fit, or the activation is unknown.
    """
    x, weight, bias = follow_autocast(x, weight, bias)
    _check(x, weight, bias)
    if activation is not None:
        check_choice("activation", activation, ("relu",))
    run = LINEAR.choose(impl, x, weight, bias)
    if x.numel() == 0 or weight.numel() == 0:
        run = reference.linear
    return run(x, weight, bias, activation == "relu")


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    check_alike(x=x, weight=weight, bias=bias)
    sizes: dict[str, int] = {}
    check_shape("weight", weight, "C' C", sizes)
    if x.dim() == 0 or x.shape[-1] != sizes["C"]:
        raise ValueError(f"x: expected shape (*, C) with C={sizes['C']}, found {tuple(x.shape)}")
    if bias is not None:
        check_shape("bias", bias, "C'", sizes)


def _reference(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return reference.linear(x, weight, bias, relu)


def _kernel(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    y = linear_cpu(x.reshape(-1, x.shape[-1]), weight, bias, relu)
    return y.view(*x.shape[:-1], weight.shape[0])


SMALLEST = 2**26  # multiplications, with AVX-512
MOST_ROWS, LEAST_WEIGHTS = 256, 3 << 19  # with AVX2


def torch_is_as_fast(*tensors: Tensor | None) -> tuple[str, ...]:
    """Reasons, measured on 2 cores, for which torch's product is used; tensors: x and weight."""
    if MEASURED_LEVEL not in ("avx2", "avx512"):
        return ("torch's product is as fast on this processor",)
    x, weight, *_ = (*tensors, None, None)
    if x is None or weight is None or x.dim() == 0 or weight.dim() != 2:
        return ()
    if MEASURED_LEVEL == "avx2":
        if x.numel() > MOST_ROWS * x.shape[-1] or weight.numel() < LEAST_WEIGHTS:
            return (f"torch's product is as fast with over {MOST_ROWS} rows or under {LEAST_WEIGHTS} weights",)
    elif x.numel() * weight.shape[0] < SMALLEST:
        return (f"torch's product is as fast below {SMALLEST} multiplications",)
    return ()


def _matrix(tensor: Tensor) -> Tensor:
    """The float32 matrix with rows or columns contiguous, copied only where neither is."""
    value = tensor.detach().to(torch.float32)
    return value if 1 in value.stride() else value.contiguous()


def _problem(
    x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], bool, int]:
    """The kernels' first arguments for tensors of `_matrix`, which must outlive the call."""
    strides, sizes = (*x.stride(), *weight.stride()), (*x.shape, weight.shape[0])
    return addresses(x, weight, bias), strides, sizes, relu, torch.get_num_threads()


def _run_forward(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    inputs = (_matrix(x), _matrix(weight), float32(bias))
    y = empty_output(x.shape[0], weight.shape[0])
    _cpu.linear_forward(*_problem(*inputs, relu), address(y))
    return y.to(x.dtype)


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _run_backward(
    y_gradient: Tensor, x: Tensor, weight: Tensor, y: Tensor | None, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = (_matrix(x), _matrix(weight), None)
    output, incoming = float32(y), float32(y_gradient)
    masked = None if y is None else empty_output(*y.shape)
    shapes = (x.shape, weight.shape, weight.shape[:1])
    gradients = [empty_output(*shape) if each else None for shape, each in zip(shapes, wanted, strict=True)]
    _cpu.linear_backward(
        *_problem(*inputs, y is not None), address(output), address(incoming), address(masked), addresses(*gradients)
    )
    of_x, of_weight, of_bias = (x.new_empty(0) if gradient is None else gradient.to(x.dtype) for gradient in gradients)
    return of_x, of_weight, of_bias


def _fake_backward(
    y_gradient: Tensor, x: Tensor, weight: Tensor, y: Tensor | None, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    shapes = (x.shape, weight.shape, weight.shape[:1])
    of_x, of_weight, of_bias = (
        x.new_empty(shape if each else (0,)) for shape, each in zip(shapes, wanted, strict=True)
    )
    return of_x, of_weight, of_bias


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, relu = inputs
    ctx.save_for_backward(x, weight, output if relu else None)


def _backward(ctx: Any, y_gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:3])
    gradients = linear_cpu_backward(y_gradient, *ctx.saved_tensors, wanted)
    return (*(gradient if each else None for gradient, each in zip(gradients, wanted, strict=True)), None)


linear_cpu = register(
    "linear_cpu(Tensor x, Tensor weight, Tensor? bias, bool relu) -> Tensor",
    device="CPU",
    run=_run_forward,
    fake=_fake_forward,
    backward=_backward,
    save=_save,
)

linear_cpu_backward = register(
    "linear_cpu_backward(Tensor y_gradient, Tensor x, Tensor weight, Tensor? y, bool[] wanted)"
    " -> (Tensor, Tensor, Tensor)",
    device="CPU",
    run=_run_backward,
    fake=_fake_backward,
    backward=not_twice_differentiable,
)

LINEAR = register_op(
    "linear",
    Implementation("cpu", _kernel, cpu_kernel_why_not, torch_is_as_fast),
    Implementation("reference", _reference, runs_anything),
)
