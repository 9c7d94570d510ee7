"""Textbook graph convolution: any dtype, any device, differentiable any number of times."""

import torch
from torch import Tensor


def graph_conv(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor) -> Tensor:
    """See `skelkern.graph_conv`."""
    subsets = adjacency.shape[-3]
    by_subset = weight.reshape(subsets, weight.shape[0] // subsets, x.shape[1])
    transformed = torch.einsum("nctv,koc->nkotv", x, by_subset)
    if bias is not None:
        transformed = transformed + bias.reshape(1, subsets, -1, 1, 1)
    neighbours = "kvw" if adjacency.dim() == 3 else "nkvw"
    return torch.einsum(f"nkotv,{neighbours}->notw", transformed, adjacency)
