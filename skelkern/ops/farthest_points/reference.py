"""Textbook farthest point sampling: any dtype, any device."""

import torch
from torch import Tensor


def farthest_point_sample(points: Tensor, m: int, mask: Tensor | None, start: int) -> Tensor:
    """See `skelkern.farthest_point_sample`."""
    batch, count, _ = points.shape
    cloud = torch.arange(batch, device=points.device)
    if mask is None:
        mask = torch.ones(batch, count, dtype=torch.bool, device=points.device)
    # the first of the mask from start on, around the end; argmax finds the first of equal values
    pick = (mask.roll(-start, dims=1).to(torch.uint8).argmax(dim=1) + start) % count
    distances = torch.where(mask, torch.inf, -torch.inf).to(points.dtype)
    picks = [pick]
    for _ in range(1, m):
        distances[cloud, pick] = torch.where(mask[cloud, pick], 0, -torch.inf).to(points.dtype)
        to_pick = (points - points[cloud, pick][:, None]).square().sum(dim=2)
        distances = torch.where(to_pick < distances, to_pick, distances)
        distances = torch.where(mask, distances, -torch.inf)
        pick = distances.argmax(dim=1)
        picks.append(pick)
    repeated = torch.arange(m, device=points.device) >= mask.sum(dim=1, keepdim=True)
    return torch.where(repeated, picks[0][:, None], torch.stack(picks, dim=1))
