"""Textbook cross-correlation loss: any dtype, any device, differentiable any number of times."""

import torch
from torch import Tensor


def cross_correlation_loss(z1: Tensor, z2: Tensor, off_diagonal_weight: float, eps: float = 1e-5) -> Tensor:
    """See `skelkern.cross_correlation_loss`."""
    correlation = standardise(z1, eps).T @ standardise(z2, eps) / z1.shape[0]
    diagonal = correlation.diagonal()
    on_diagonal = (1 - diagonal).square().sum()
    off_diagonal = (correlation - torch.diag(diagonal)).square().sum()
    return on_diagonal + off_diagonal_weight * off_diagonal


def standardise(z: Tensor, eps: float) -> Tensor:
    """Each feature of z (N, D) with mean 0 and biased variance 1 over the batch."""
    centred = z - z.mean(dim=0)
    return centred * (centred.square().mean(dim=0) + eps).rsqrt()
