"""Textbook down-sampling of sequences: any dtype, any device, differentiable any number of times."""

import torch
from torch import Tensor
from torch.nn import functional


def unified_downsampling(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    stride: int,
    padding: int,
    pool: int,
    eps: float,
) -> Tensor:
    """See `skelkern.unified_downsampling`."""
    y = functional.conv1d(x.transpose(1, 2), weight, bias, stride, padding, groups=weight.shape[0])
    y = torch.relu(functional.layer_norm(y.transpose(1, 2), gamma.shape, gamma, beta, eps))
    return functional.max_pool1d(y.transpose(1, 2), pool).transpose(1, 2)
