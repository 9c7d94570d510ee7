"""Running statistics of a batch normalisation."""

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
