"""Textbook edge convolution, edge by edge: any dtype, any device, differentiable any number of times."""

import torch
from torch import Tensor

from skelkern.processes import sum_over


def edge_conv(
    x: Tensor,
    neighbors: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    mask: Tensor | None,
    eps: float,
    negative_slope: float,
    group: object | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output (B, N, C'), mean and biased variance (C'), number of edges; see `skelkern.edge_conv`."""
    if mask is None:
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    x = torch.where(mask[..., None], x, 0)
    batch = torch.arange(x.shape[0], device=x.device)[:, None, None]
    others, own = x[batch, neighbors], x[:, :, None].expand(*neighbors.shape, x.shape[2])
    edges = torch.cat([others - own, own], dim=3) @ weight.T
    valid = (mask[:, :, None] & mask[batch, neighbors])[..., None]

    def total(value: Tensor) -> Tensor:
        return value if group is None else sum_over(value, group)

    count = total(valid.sum().to(edges.dtype))
    if mean is None or variance is None:
        mean = total(torch.where(valid, edges, 0).sum(dim=(0, 1, 2))) / count
        deviations = torch.where(valid, edges - mean, 0)
        variance = total(deviations.square().sum(dim=(0, 1, 2))) / count
    normalised = (edges - mean) * (variance + eps).rsqrt() * gamma + beta
    activated = torch.nn.functional.leaky_relu(normalised, negative_slope).masked_fill(~valid, -torch.inf)
    y = activated.gather(2, _first_largest(activated.detach())).squeeze(2)
    return torch.where(valid.any(dim=2), y, 0), mean, variance, count


def _first_largest(values: Tensor) -> Tensor:
    """Lowest slot of the largest value, or of a NaN, in dimension 2, which is kept."""
    candidate = (values == values.amax(dim=2, keepdim=True)) | values.isnan()
    slots = torch.arange(values.shape[2], device=values.device)[:, None]
    return torch.where(candidate, slots, values.shape[2] - 1).amin(dim=2, keepdim=True)
