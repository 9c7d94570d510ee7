"""Several processes: process groups, and batches that are divided among them."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_groups: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def group_name(group: Any) -> str:
    """A name that `of_each` knows the group by, as torch ops take strings only; empty for None."""
    if group is None:
        return ""
    _groups[group.group_name] = group
    return str(group.group_name)


def of_each(value: Tensor, name: str) -> list[Tensor]:
    """The value of every process in a group, by rank; of this process alone without a name."""
    if not name:
        return [value]
    group = _groups[name]
    parts = [torch.empty_like(value) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(parts, value, group=group)
    return parts


class _Sum(torch.autograd.Function):
    """A sum over processes, whose gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = value.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return sum_over(gradients[0], ctx.group), None


def sum_over(value: Tensor, group: Any) -> Tensor:
    """Sum of a tensor over the processes of a group, with gradients."""
    total: Tensor = _Sum.apply(value, group)  # type: ignore[no-untyped-call]
    return total


@dataclass(frozen=True)
class JointBatch:
    """A batch of which every process of a group has a part: process r has samples r, r + processes, and so on.

    Attributes:
        samples: of all processes together.
        rank, processes: this one's number, and how many there are.
        group: the process group.
    """

    samples: int
    rank: int
    processes: int
    group: Any

    def divided(self, name: str, consecutive: int) -> int:
        """How many of any so many consecutive samples, from the first on, are this process's.

        Raises:
            ValueError: not as many for every process; the message begins with `name`.
        """
        rest = self.samples % consecutive
        if consecutive % self.processes != 0 or 0 < rest < self.processes:
            raise ValueError(
                f"{name}: expected a multiple of the {self.processes} processes, which leaves none without a sample of "
                f"{self.samples}, found {consecutive}"
            )
        return consecutive // self.processes


class _Current(threading.local):
    batch: JointBatch | None = None


_current = _Current()


@contextmanager
def joint_batch(samples: int, group: Any = None) -> Iterator[None]:
    """Says that what is computed within is of this process's part of a batch: samples r, r + R, ... of R processes.

    Then the batch normalisations of `skelkern.nn`, when training, take the statistics of the whole batch, forward and
    backward, `skelkern.nn.MemoryQueue` writes the keys of all processes, and `skelkern.gathered` collects rows, all in
    the order of samples. Losses of own samples, weighted by `len(own) * R / samples` before backward, and gradients
    averaged over the processes, as DistributedDataParallel does, make the gradient of one process with the whole batch.
    Nothing changes in a single process. Like `skelkern.use` it is a matter of the calling thread.

    Args:
        samples: of all processes together, at least one for each.
        group: process group; by default all processes of torch.distributed, where that is initialised.

    Raises:
        ValueError: a process is left without a sample.
    """
    previous, _current.batch = _current.batch, _joint(samples, group)
    try:
        yield
    finally:
        _current.batch = previous


def _joint(samples: int, group: Any) -> JointBatch | None:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    group = group or distributed.group.WORLD
    processes = distributed.get_world_size(group)
    if samples < processes:
        raise ValueError(f"samples: expected at least one for each of {processes} processes, found {samples}")
    return None if processes == 1 else JointBatch(samples, distributed.get_rank(group), processes, group)


def current_batch() -> JointBatch | None:
    """What `joint_batch` has set, where there are several processes."""
    return _current.batch


def summed(value: Tensor) -> Tensor:
    """The sum over the processes of a joint batch, with gradients; the value itself where there is none."""
    batch = current_batch()
    return value if batch is None else sum_over(value, batch.group)


def gathered(rows: Tensor) -> Tensor:
    """One or several values of each sample of a joint batch, in the order of samples, with gradients.

    The sum over processes of rows that are 0 but for the own ones: exact, and shares need not be equal.

    Args:
        rows: (B, *) of this process's samples.

    Returns:
        (samples, *); the rows themselves where there is no joint batch.

    Raises:
        ValueError: the process has another number of samples.
    """
    batch = current_batch()
    if batch is None:
        return rows
    own = len(range(batch.rank, batch.samples, batch.processes))
    if rows.shape[0] != own:
        raise ValueError(f"rows: expected this process's {own} of {batch.samples} samples, found {rows.shape[0]}")
    joined = rows.new_zeros(batch.samples, *rows.shape[1:])
    joined[batch.rank :: batch.processes] = rows
    return sum_over(joined, batch.group)
