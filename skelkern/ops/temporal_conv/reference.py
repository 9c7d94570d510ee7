"""Textbook temporal convolution: any dtype, any device, differentiable any number of times."""

import torch
from torch import Tensor

from skelkern.ops.block_tail import reference


def temporal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int) -> Tensor:
    """See `skelkern.temporal_conv`."""
    kernel = weight.reshape(*weight.shape[:3], 1)
    return torch.nn.functional.conv2d(x, kernel, bias, (stride, 1), (padding, 0), (dilation, 1))


def statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the channels of y (N, C, T, V), without gradients."""
    variance, mean = torch.var_mean(y.detach(), dim=(0, 2, 3), correction=0)
    return mean, variance


def normalise(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """relu(batch_norm(x)); without `mean` and `variance` they are those of x; returned beside it."""
    return reference.block_tail(x, mean, variance, weight, bias, None, None, 0.0, eps, relu=True)
