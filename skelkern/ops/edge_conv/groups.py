"""Process groups as arguments of torch ops, which take strings only."""

import weakref
from typing import Any

import torch
from torch import Tensor

_groups: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def group_name(group: Any) -> str:
    """A name that `gathered` knows the group by; empty for None."""
    if group is None:
        return ""
    _groups[group.group_name] = group
    return str(group.group_name)


def gathered(value: Tensor, name: str) -> list[Tensor]:
    """The value of every process in a group, by rank; of this process alone without a name."""
    if not name:
        return [value]
    group = _groups[name]
    parts = [torch.empty_like(value) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(parts, value, group=group)
    return parts


def merged(parts: list[Tensor]) -> Tensor:
    """Statistics of all processes together, as those of each: number of edges, means, sums of squared deviations.

    (1 + 2 C') float64, merged as by Chan et al., 1979; nothing waits for a GPU.
    """
    if len(parts) == 1:
        return parts[0]
    stacked = torch.stack(parts)
    counts, (means, squares) = stacked[:, :1], stacked[:, 1:].chunk(2, dim=1)
    total = counts.sum(dim=0)
    mean = (counts * means).sum(dim=0) / total.clamp(min=1)
    deviations = (squares + counts * (means - mean).square()).sum(dim=0)
    return torch.cat([total, mean, deviations])
