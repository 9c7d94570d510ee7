"""Textbook nearest distances between clouds: any dtype, any device, differentiable any number of times."""

import torch
from torch import Tensor


def nearest_distances(
    x: Tensor, y: Tensor, x_mask: Tensor | None, y_mask: Tensor | None, weights: Tensor | None, squared: bool
) -> tuple[Tensor, Tensor]:
    """Distance of every point to the other cloud, (B, N) and (B, M); see `skelkern.chamfer_distance`."""
    weights = x.new_ones(x.shape[2]) if weights is None else weights
    with torch.no_grad():
        pairs = x.new_zeros(x.shape[0], x.shape[1], y.shape[1])
        for weight, a, b in zip(weights, x.unbind(dim=2), y.unbind(dim=2), strict=True):
            pairs = pairs + weight * (a[:, :, None] - b[:, None, :]).square()
        pairs = torch.where(pairs.isnan(), torch.inf, pairs)
    to_y = _one_way(x, y, pairs, x_mask, y_mask, weights, squared)
    to_x = _one_way(y, x, pairs.transpose(1, 2), y_mask, x_mask, weights, squared)
    return to_y, to_x


def _one_way(
    points: Tensor,
    others: Tensor,
    pairs: Tensor,
    mask: Tensor | None,
    other_mask: Tensor | None,
    weights: Tensor,
    squared: bool,
) -> Tensor:
    valid = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device) if mask is None else mask
    if others.shape[1] == 0:
        return points.new_zeros(points.shape[:2])
    if other_mask is not None:
        valid = valid & other_mask.any(dim=1, keepdim=True)
        pairs = pairs.masked_fill(~other_mask[:, None], torch.inf)
    found = pairs.argmin(dim=2)
    if other_mask is not None:  # where nothing is finite, a point that counts
        found = torch.where(pairs.amin(dim=2).isinf(), other_mask.to(torch.uint8).argmax(dim=1, keepdim=True), found)
    batch = torch.arange(points.shape[0], device=points.device)[:, None]
    differences = torch.where(valid[..., None], points, 0) - torch.where(valid[..., None], others[batch, found], 0)
    distances = (weights * differences.square()).sum(dim=2)
    if squared:
        return distances
    apart = distances > 0
    return torch.where(apart, torch.where(apart, distances, 1).sqrt(), distances)
