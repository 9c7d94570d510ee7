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
