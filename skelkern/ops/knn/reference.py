"""Textbook nearest neighbours: any dtype, any device."""

import torch
from torch import Tensor


def knn(points: Tensor, k: int, mask: Tensor | None = None) -> Tensor:
    """See `skelkern.knn`."""
    batch, count, _ = points.shape
    distances = points.new_zeros(batch, count, count)
    for coordinate in points.unbind(dim=2):
        distances = distances + (coordinate[:, :, None] - coordinate[:, None, :]).square()
    distances = torch.where(distances.isnan(), torch.inf, distances)
    order = distances.argsort(dim=2, stable=True)
    if mask is None:
        return order[..., :k]
    left_out = ~mask[:, None, :].expand(batch, count, count)
    order = order.gather(2, left_out.gather(2, order).to(torch.uint8).argsort(dim=2, stable=True))
    last = (mask.sum(dim=1)[:, None] - 1).clamp(min=0)
    slots = torch.minimum(torch.arange(k, device=points.device)[None], last)
    neighbors = order.gather(2, slots[:, None].expand(batch, count, k))
    own = torch.arange(count, device=points.device)[None, :, None]
    return torch.where(mask[..., None], neighbors, own)
