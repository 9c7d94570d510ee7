"""Linear layers at the sizes of the field's encoders and heads, forward and backward, against torch's own product.

Without the ReLU, whose sign differs where two sums of a product are nearly 0.
"""

import torch
from race import OURS, Case
from torch import Tensor

import skelkern


def official(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.nn.functional.linear(x, weight, bias)


def pointwise_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same product through the convolution library, rows as pixels of a channels-last image."""
    image = x.T[None, :, :, None]
    return torch.nn.functional.conv2d(image, weight[..., None, None], bias)[0, :, :, 0].T


def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return skelkern.linear(x, weight, bias, impl="cpu")


def case(name: str, rows: int, channels: int, out_channels: int, sizes: str = "standard") -> Case:
    def inputs() -> tuple[Tensor, ...]:
        weight = torch.randn(out_channels, channels) / channels**0.5
        tensors = (torch.randn(rows, channels), weight, torch.randn(out_channels))
        return tuple(tensor.requires_grad_() for tensor in tensors)

    flops = 6 * rows * channels * out_channels
    # forward and both gradients have three matrices each
    moved = 4 * 3 * (rows * channels + out_channels * channels + rows * out_channels)
    functions = {"official": official, "1 x 1 convolution": pointwise_convolution, OURS: ours}
    return Case(f"{name}, {rows} x {channels} x {out_channels}", functions, inputs, flops, moved, (), sizes)


CASES = [
    case("small", 37, 50, 70, sizes="smoke"),
    case("projector of PSTL", 128, 6144, 6144, sizes="full"),
    case("fold of FoldingNet", 16200, 1024, 1024, sizes="full"),
    case("gates of HiCo", 4096, 512, 768),
    case("gates of ISC", 4096, 2048, 3072, sizes="full"),
    case("recurrent step of ISC", 64, 1024, 3072),
    case("recurrent step of HiCo", 64, 256, 768),
    case("points of a cloud", 160000, 64, 64),
]


def test_linear(compare, case):
    compare(case)
