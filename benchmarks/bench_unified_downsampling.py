"""HiCo's unified down-sampling between the levels of its hierarchy, forward and backward, at the sizes of the paper."""

import torch
from race import OURS, Case
from torch import Tensor, nn

import skelkern

KERNEL, PADDING, POOL = 5, 2, 2


def official(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """As the official code does it: layers that want channels first and channels last in turn."""
    y = nn.functional.conv1d(x.transpose(1, 2), weight, bias, padding=PADDING, groups=weight.shape[0])
    y = nn.functional.relu(nn.functional.layer_norm(y.transpose(1, 2), gamma.shape, gamma, beta), inplace=True)
    return nn.functional.max_pool1d(y.transpose(1, 2), POOL).transpose(1, 2)


def taps(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """The convolution as a sum of shifted sequences, channels last throughout."""
    padded, frames = nn.functional.pad(x, (0, 0, PADDING, PADDING)), x.shape[1]
    y = bias.expand_as(x)
    for tap in range(KERNEL):
        y = torch.addcmul(y, padded[:, tap : tap + frames], weight[:, 0, tap])
    y = nn.functional.relu(nn.functional.layer_norm(y, gamma.shape, gamma, beta))
    return y[:, : frames // POOL * POOL].unflatten(1, (-1, POOL)).amax(dim=2)


def ours(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return skelkern.unified_downsampling(x, weight, bias, gamma, beta, padding=PADDING, pool=POOL)


def case(name: str, n: int, t: int, c: int, sizes: str = "standard") -> Case:
    def inputs() -> tuple[Tensor, ...]:
        shapes = ((n, t, c), (c, 1, KERNEL), (c,), (c,), (c,))
        return tuple(torch.randn(*shape).requires_grad_() for shape in shapes)

    flops = n * t * c * (3 * 2 * KERNEL + 30)  # convolution and both gradients, then the normalisation
    moved = 4 * n * c * (3 * t + 2 * (t // POOL))  # x twice and its gradient; the result and its gradient
    functions = {"official": official, "sum of taps": taps, OURS: ours}
    return Case(f"{name}, {n} x {t} x {c}", functions, inputs, flops, moved, (), sizes)


CASES = [
    case("small", 3, 9, 20, sizes="smoke"),
    case("frames of HiCo", 64, 64, 512),
    case("joints of HiCo", 64, 50, 512, sizes="full"),
    case("joints of HiCo's second level", 64, 25, 512, sizes="full"),
]


def test_unified_downsampling(compare, case):
    compare(case)
