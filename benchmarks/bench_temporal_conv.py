"""Temporal convolutions at the sizes of ST-GCN's blocks, forward and backward, against the convolution library."""

import torch
from race import OURS, Case
from torch import Tensor

import skelkern

KERNEL, JOINTS = 9, 25


def official(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    return torch.nn.functional.conv2d(x, weight, bias, (stride, 1), (KERNEL // 2, 0))


def channels_last(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """The memory format that the library prefers; the copies into it and back belong to the race."""
    return official(x.contiguous(memory_format=torch.channels_last), weight, bias, stride).contiguous()


def ours(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    return skelkern.temporal_conv(x, weight, bias, stride, KERNEL // 2)


def case(channels: int, frames: int, stride: int = 1, n: int = 64, sizes: str = "standard") -> Case:
    def inputs() -> tuple[Tensor | int, ...]:
        shapes = ((n, channels, frames, JOINTS), (channels, channels, KERNEL, 1), (channels,))
        return *(torch.randn(*shape).requires_grad_() for shape in shapes), stride

    read, written = n * channels * frames * JOINTS, n * channels * (frames // stride) * JOINTS
    flops = 3 * 2 * written * channels * KERNEL
    functions = {"official": official, "channels-last": channels_last, OURS: ours}
    name = f"{channels} channels, {frames} frames{f', stride {stride}' if stride > 1 else ''}"
    return Case(name, functions, inputs, flops, 4 * (3 * read + 3 * written), (), sizes)


CASES = [
    case(8, 12, n=2, sizes="smoke"),
    case(16, 50),
    case(32, 50, stride=2),
    case(64, 50),
    case(128, 25, sizes="full"),
    case(256, 13, sizes="full"),
]


def test_temporal_conv(compare, case):
    compare(case)
