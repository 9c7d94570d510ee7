"""Graph convolution over the joints of a skeleton."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.autocast import follow_autocast
from skelkern.checks import check_alike, check_shape
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.gpu import interpreter_is_slow, triton_kernel_why_not
from skelkern.memory import empty_output
from skelkern.ops.graph_conv import reference
from skelkern.registration import address, float32, register_with_gradient


def graph_conv(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor, *, impl: str = "auto") -> Tensor:
    """Graph convolution: a linear map of each joint's channels per subset, summed over neighbours.

    y[n, c', t, w] = Σₖ Σᵥ (Wₖ x + bₖ)[n, c', t, v] Aₖ[v, w]. The kernel sums over neighbours first and then multiplies
    with the weights only where a subset reaches a joint; the support of the adjacency is found in each call. Under
    autocast all arguments are cast to the autocast dtype. The CPU's kernel computes in float32; the Triton kernel
    rounds sums over neighbours to the arguments' dtype and adds up products in float32.

    Source: Yan et al., "Spatial Temporal Graph Convolutional Networks", AAAI 2018, eq. 10.

    Args:
        x: (N, C, T, V) features of T frames of V joints.
        weight: (K·C', C) or (K·C', C, 1, 1); row k·C' + c' belongs to subset k, as in a 1 x 1 convolution.
        bias: (K·C') or None.
        adjacency: (K, V, V), from joint v (row) to joint w (column), or (N, K, V, V), one for each sample. Entries
            that are exactly zero contribute nothing to the kernel's result, whatever x holds there; they do have a
            gradient.
        impl: "auto", "reference", "cpu" or "triton"; see `skelkern.explain`.

    Returns:
        (N, C', T, V) in x's dtype, differentiable by all four tensors; the adjacency's gradient is dense. "triton"
        computes in channels-last memory: it copies no such x, and returns y and x's gradient in x's memory format.

    Raises:
        TypeError: an argument is no floating-point tensor, or the dtypes differ.
        ValueError: shapes or devices do not fit.
    """
    x, weight, bias, adjacency = follow_autocast(x, weight, bias, adjacency)
    _check(x, weight, bias, adjacency)
    run = GRAPH_CONV.choose(impl, x, weight, bias, adjacency)
    if x.numel() == 0 or weight.numel() == 0:
        return _reference(x, weight, bias, adjacency)
    return run(x, weight.reshape(weight.shape[0], -1), bias, adjacency)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor) -> None:
    check_alike(x=x, weight=weight, adjacency=adjacency, bias=bias)
    sizes: dict[str, int] = {}
    check_shape("x", x, "N C T V", sizes)
    check_shape("adjacency", adjacency, "K V V" if adjacency.dim() == 3 else "N K V V", sizes)
    check_shape("weight", weight, "K·C' C" if weight.dim() == 2 else "K·C' C 1 1", sizes)
    subsets, rows = sizes["K"], sizes["K·C'"]
    if subsets == 0 or rows % subsets != 0:
        raise ValueError(f"weight: expected its rows to be a multiple of the adjacency's K={subsets}, found {rows}")
    if bias is not None:
        check_shape("bias", bias, "K·C'", sizes)


def _reference(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return reference.graph_conv(x, weight, bias, adjacency)


def _sizes(x: Tensor, weight: Tensor, adjacency: Tensor) -> tuple[int, ...]:
    """(n, c, t, v, k, c_out) as the kernel takes them."""
    return (*x.shape, adjacency.shape[-3], weight.shape[0] // adjacency.shape[-3])


def _problem(
    x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor
) -> tuple[int, int, int, int, tuple[int, ...], bool, int]:
    """The kernels' first arguments for contiguous float32 tensors, which must outlive the call."""
    addresses = (address(x), address(weight), address(bias), address(adjacency))
    return (*addresses, _sizes(x, weight, adjacency), adjacency.dim() == 4, torch.get_num_threads())


def _run_forward(*inputs: Tensor) -> Tensor:
    x, weight, bias, adjacency = (float32(tensor) for tensor in inputs)
    n, _, t, v, _, c_out = _sizes(x, weight, adjacency)
    y = empty_output(n, c_out, t, v)
    _cpu.graph_conv_forward(*_problem(x, weight, bias, adjacency), address(y))
    return y.to(inputs[0].dtype)


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor) -> Tensor:
    n, _, t, v, _, c_out = _sizes(x, weight, adjacency)
    return x.new_empty(n, c_out, t, v)


def _run_backward(
    y_gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor, wanted: list[bool]
) -> tuple[Tensor, ...]:
    inputs = (float32(x), float32(weight), float32(bias), float32(adjacency))
    dy = float32(y_gradient)
    shapes = (x.shape, weight.shape, weight.shape[:1], adjacency.shape)
    gradients = [empty_output(*shape) if each else None for shape, each in zip(shapes, wanted, strict=True)]
    _cpu.graph_conv_backward(*_problem(*inputs), address(dy), tuple(address(gradient) for gradient in gradients))
    return tuple(x.new_empty(0) if gradient is None else gradient.to(x.dtype) for gradient in gradients)


def _fake_backward(
    y_gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor, wanted: list[bool]
) -> tuple[Tensor, ...]:
    shapes = (x.shape, weight.shape, weight.shape[:1], adjacency.shape)
    return tuple(x.new_empty(shape if each else (0,)) for shape, each in zip(shapes, wanted, strict=True))


def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def gradient_formula(backward_kernel: Any) -> Callable[..., Any]:
    """The formula of an op of this module's `SCHEMA`, by one of its `BACKWARD_SCHEMA`."""

    def backward(ctx: Any, y_gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = list(ctx.needs_input_grad)
        gradients = backward_kernel(y_gradient, *ctx.saved_tensors, wanted)
        return tuple(gradient if each else None for gradient, each in zip(gradients, wanted, strict=True))

    return backward


def _triton(*arguments: Tensor | None) -> Tensor:
    from skelkern.ops.graph_conv import triton

    return triton.graph_conv_triton(*arguments)


SCHEMA = "(Tensor x, Tensor weight, Tensor? bias, Tensor adjacency) -> Tensor"
BACKWARD_SCHEMA = (
    "(Tensor y_gradient, Tensor x, Tensor weight, Tensor? bias, Tensor adjacency, bool[] wanted)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)

graph_conv_cpu = register_with_gradient(
    "graph_conv_cpu",
    (SCHEMA, BACKWARD_SCHEMA),
    device="CPU",
    run=_run_forward,
    fake=_fake_forward,
    save=save,
    run_backward=_run_backward,
    fake_backward=_fake_backward,
    formula=gradient_formula,
)

GRAPH_CONV = register_op(
    "graph_conv",
    Implementation("triton", _triton, triton_kernel_why_not, interpreter_is_slow),
    Implementation("cpu", graph_conv_cpu, cpu_kernel_why_not),
    Implementation("reference", _reference, runs_anything),
)
