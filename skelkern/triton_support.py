"""What the Triton kernels share: the launch, and products of float32 class on units that multiply 16-bit numbers.

One source for Triton 3.6 to 3.9, and for the interpreter (TRITON_INTERPRET=1), which computes wrongly in bfloat16:
values are widened right after a load, and operands of products there are rounded first and widened again.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from skelkern import gpu

DEVICE = "CPU" if gpu.INTERPRETED else "CUDA"  # dispatch key of the ops that launch Triton kernels
INTERPRET = tl.constexpr(gpu.INTERPRETED)


@dataclass(frozen=True)
class Configuration:
    """Sizes of a kernel's tile, warps of a program and stages of its software pipeline."""

    rows: int
    columns: int
    warps: int
    stages: int = 1


def hopper(device: torch.device) -> bool:
    """Whether tables of configurations are read in the column of capability 9.0 and above."""
    return gpu.capability(device) >= (9, 0)


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    *arguments: Any,
    device: torch.device,
    warps: int,
    stages: int = 1,
    **constants: Any,
) -> None:
    """Starts a kernel on the current stream of `device`; a grid without programs starts nothing.

    Compiled kernels are kept: Triton's own search for one takes the host about as long as the launch.
    """
    if 0 in grid:
        return
    key = (kernel.fn, device, warps, stages, *constants.items(), *map(_specialised_by, arguments))
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        compiled = _compiled.get(key)
        if compiled is None:
            options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
            _compiled[key] = kernel[grid](*arguments, **options, **constants)  # None where it is interpreted
        else:
            ordered = (constants[name] for name in kernel.arg_names[len(arguments) :])
            compiled[(*grid, 1, 1)[:3]](*arguments, *ordered)


_compiled: dict[tuple[Any, ...], Any] = {}


def _specialised_by(argument: Any) -> Any:
    """What Triton compiles a kernel for, of an argument that is no constant."""
    if isinstance(argument, torch.Tensor):
        return argument.dtype, argument.data_ptr() % 16 == 0
    if type(argument) is int:
        return argument == 1, argument % 16 == 0, -(2**31) <= argument < 2**31, argument < 2**63
    return type(argument)


def power_of_two_from(size: int, least: int = 16) -> int:
    """The smallest power of two that is neither below `size` nor below `least`."""
    return max(least, triton.next_power_of_2(size))


@triton.jit
def dot(a, b, acc):
    """acc + a b for 16-bit a (m, k) and b (k, n), summed in float32."""
    if INTERPRET:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    return tl.dot(a, b, acc, input_precision="ieee")


@triton.jit
def halves(x):
    """float32 x as a sum of two float16, exact to 22 bits while |x| is in [2^-3, 2^16)."""
    high = x.to(tl.float16)
    return high, (x - high.to(tl.float32)).to(tl.float16)


@triton.jit
def dot_of_halves(a_high, a_low, b_high, b_low, acc):
    """acc + a b of operands that `halves` has split: three products, the error of which is that of float32."""
    acc = dot(a_low, b_high, acc)
    acc = dot(a_high, b_low, acc)
    return dot(a_high, b_high, acc)


@triton.jit
def scale_into_half(largest):
    """The power of two that takes float32 `largest` >= 0 into [2^12, 2^13): there `halves` keeps 22 bits of all numbers
    down to 2^-15 of the largest, and smaller ones contribute to no digit of a sum. At most 2^127."""
    exponent = (largest.to(tl.int32, bitcast=True) >> 23) & 0xFF
    return (tl.minimum(266 - exponent, 254) << 23).to(tl.float32, bitcast=True)


@triton.jit
def inverse_of_power(scale):
    """1 / scale, exactly, for a power of two from 2^-126 to 2^126; 0 for 2^127."""
    return ((254 << 23) - scale.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)


@triton.jit
def log1p(x):
    """log(1 + x) for x >= 0 with the digits of a small x: 2 artanh(x / (2 + x))."""
    z = x / (2 + x)
    square = z * z
    series = 1.0 / 9
    series = series * square + 1.0 / 7
    series = series * square + 1.0 / 5
    series = series * square + 1.0 / 3
    series = series * square + 1
    return tl.where(x < 0.5, 2 * z * series, tl.log(1 + x))
