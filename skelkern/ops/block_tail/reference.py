"""Textbook tail of a convolution block: any dtype, any device, differentiable any number of times."""

import torch
from torch import Tensor

from skelkern.philox import MASK, philox

BLOCK = 64  # words of 16 counters


def block_tail(
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
) -> tuple[Tensor, Tensor, Tensor]:
    """See `skelkern.block_tail`; x (N, C, *). Without `mean` and `variance` they are those of x; returned beside y."""
    over = [dim for dim in range(x.dim()) if dim != 1]
    if mean is None or variance is None:
        mean = x.mean(dim=over)
        variance = (x - _by_channel(mean, x)).square().mean(dim=over)
    y = (x - _by_channel(mean, x)) * _by_channel((variance + eps).rsqrt(), x)
    if weight is not None and bias is not None:
        y = y * _by_channel(weight, x) + _by_channel(bias, x)
    if seed is not None:
        y = y * (keep(x.shape, seed, dropout).to(x.dtype) / (1 - dropout))
    if residual is not None:
        y = y + residual
    return torch.relu(y) if relu else y, mean, variance


def keep(shape: torch.Size, seed: Tensor, dropout: float) -> Tensor:
    """Bools of `shape` (N, C, *): which elements stay, a function of the seed and the element's place alone.

    Each row of one sample's channel has Philox blocks of its own: word j of row r is word j % 64 of block
    r · ceil(length / 64) + j // 64. Block b holds the words of counters 16 b to 16 b + 15: all first words, then all
    second ones, and so on.
    """
    rows, length = shape[0] * shape[1], shape[2:].numel()
    blocks = -(-length // BLOCK)
    counter = torch.arange(16 * rows * blocks, device=seed.device)
    zero = torch.zeros_like(counter)
    words = torch.stack(philox((counter & MASK, counter >> 32, zero, zero), (seed & MASK, seed >> 32 & MASK)))
    by_block = words.view(4, rows * blocks, 16).permute(1, 0, 2).reshape(rows, blocks * BLOCK)
    return (by_block[:, :length] >= int(dropout * 2**32)).view(shape)


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (x.dim() - 2))
