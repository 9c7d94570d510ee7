"""Statistics of a batch normalisation: running ones, and those of several processes together."""

import torch
from torch import Tensor


@torch.no_grad()
def update_running(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    count: Tensor | int,
    momentum: float,
) -> None:
    """Moves the running statistics, where there are any, towards the mean and biased variance of `count` values."""
    if running_mean is not None:
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    if running_var is not None:
        running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)


def merged(parts: list[Tensor]) -> Tensor:
    """Statistics of all processes together, as those of each: number of values, means, sums of squared deviations.

    (1 + 2 C) float64, merged as by Chan et al., 1979; nothing waits for a GPU.
    """
    if len(parts) == 1:
        return parts[0]
    stacked = torch.stack(parts)
    counts, (means, squares) = stacked[:, :1], stacked[:, 1:].chunk(2, dim=1)
    total = counts.sum(dim=0)
    mean = (counts * means).sum(dim=0) / total.clamp(min=1)
    deviations = (squares + counts * (means - mean).square()).sum(dim=0)
    return torch.cat([total, mean, deviations])
