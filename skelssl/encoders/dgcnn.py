"""DGCNN (Wang et al., ACM TOG 2019), the encoder of skeleton clouds."""

from typing import Any

import torch
from torch import Tensor, nn

from skelkern import linear
from skelkern.blocks import norm_arguments
from skelkern.nn import EdgeConv
from skelkern.processes import current_batch, summed
from skelkern.statistics import update_running


class DGCNN(nn.Module):
    """Four edge convolutions, each on the graph of its own input, all of them concatenated, and a maximum over points.

    state_dict keys are those of `DGCNN_Cls_Encoder` in the public auto-encoder code
    (UnsupervisedPointCloudReconstruction), which has every normalisation under two names.

    Args:
        in_channels: D of a point.
        feature_dim: F.
        k: neighbours of a point.
    """

    def __init__(self, in_channels: int = 3, feature_dim: int = 1024, k: int = 20):
        super().__init__()
        self.feature_dim = feature_dim
        self.conv1 = EdgeConv(in_channels, 64, k)
        self.conv2 = EdgeConv(64, 64, k)
        self.conv3 = EdgeConv(64, 128, k)
        self.conv4 = EdgeConv(128, 256, k)
        self.conv5 = nn.Sequential(
            nn.Conv1d(64 + 64 + 128 + 256, feature_dim, kernel_size=1, bias=False),
            nn.BatchNorm1d(feature_dim),
            nn.LeakyReLU(0.2),
        )
        for number in range(1, 6):
            self.add_module(f"bn{number}", self.get_submodule(f"conv{number}.1"))

    def forward(self, points: Tensor, mask: Tensor | None = None) -> Tensor:
        """points (B, N, D), mask (B, N) of points that count (at least one of each cloud) -> (B, F)."""
        layers, x = [], points
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = layer(x, mask=mask)
            layers.append(x)
        return pooled_layer(self.conv5, torch.cat(layers, dim=2), mask)


def pooled_layer(layers: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Convolution without bias, batch normalisation and LeakyReLU, then the maximum over points.

    In every channel normalisation and activation rise, or fall where gamma is negative: the maximum is that of the
    largest or smallest product, and nothing else of the products is kept. Their statistics are those of x, mapped: mean
    W m and variance diag(W S Wᵀ), S being x's covariance, which costs half a product in either direction.

    Args:
        layers: the three modules; kernel 1.
        x: (B, N, C), 0 where the mask is False.
        mask: (B, N) bool, points that count, at least one of each cloud; None where all do.

    Returns:
        (B, F). At equal products the gradient goes to one of the points.
    """
    convolution, norm, activation = layers
    with torch.autocast(x.device.type, enabled=False):
        weight = convolution.weight[:, :, 0]
        x, named = x.to(weight.dtype), norm_arguments(norm)
        mean, variance = named["running_mean"], named["running_var"]
        if named["training"]:
            mean, variance = _mapped_statistics(x, weight, mask, named)
        normalised = (_extremes(x, weight, named["weight"], mask) - mean) * (variance + named["eps"]).rsqrt()
        pooled: Tensor = activation(normalised * named["weight"] + named["bias"])
    return pooled


def _mapped_statistics(x: Tensor, weight: Tensor, mask: Tensor | None, named: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """(F) mean and biased variance of the products of all points that count; running ones are moved towards them."""
    count = x.shape[0] * x.shape[1] if mask is None else mask.sum()
    if current_batch() is not None:
        count = summed(torch.as_tensor(count, device=x.device))
    x = x.flatten(0, 1)
    if mask is not None:
        x = x * mask.flatten()[:, None]
    mean = summed(x.sum(dim=0)) / count
    centred = x - mean.detach()  # as their sum is 0, the mean's own gradient is 0 here
    if mask is not None:
        centred = centred * mask.flatten()[:, None]
    # the gradient of a symmetric product is twice that of one of its factors
    half = summed(linear(centred.t().detach(), centred.t())) / count
    mapped = linear(weight, 2 * half - half.detach())
    mean, variance = weight @ mean, (mapped * weight).sum(dim=1)
    statistics = (mean.detach(), variance.detach(), count)
    update_running(named["running_mean"], named["running_var"], *statistics, named["momentum"])
    return mean, variance


def _extremes(x: Tensor, weight: Tensor, gamma: Tensor, mask: Tensor | None) -> Tensor:
    """(B, F) each cloud's largest product with every row of the weight, the smallest one where gamma is negative."""
    with torch.no_grad():
        sign = torch.where(gamma < 0, -1.0, 1.0).to(weight.dtype)
        products = linear(x, weight * sign[:, None])
        if mask is not None:
            products = products.masked_fill(~mask[:, :, None], -torch.inf)
    if not torch.is_grad_enabled():
        return products.amax(dim=1) * sign
    points = _largest(products)
    first = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1]
    rows = x.flatten(0, 1).index_select(0, (points + first).flatten()).unflatten(0, points.shape)
    return (rows * weight).sum(dim=2)


BLOCK = 32  # points whose maximum is taken at once


def _largest(x: Tensor) -> Tensor:
    """(B, F) the place along N of the largest of x (B, N, F): its block first, as maxima alone are faster to take."""
    block = torch.stack([part.amax(dim=1) for part in x.split(BLOCK, dim=1)]).max(dim=0).indices * BLOCK
    places = (block[:, None] + torch.arange(BLOCK, device=x.device)[:, None]).clamp(max=x.shape[1] - 1)
    within = x.gather(1, places).max(dim=1, keepdim=True).indices
    return places.gather(1, within)[:, 0]
