"""A queue of keys and a slowly moving encoder: what momentum contrast keeps between steps (He et al., CVPR 2020)."""

import torch
from torch import Tensor, nn

from skelkern.checks import check_number, check_shape, check_tensor
from skelkern.processes import gathered


class MemoryQueue(nn.Module):
    """The latest `size` keys, oldest overwritten first; rows of `self.queue` (size, dim) are what `info_nce` takes.

    The queue starts as unit vectors of normal noise, which the seed determines: the same in every process. Keys and
    pointer are buffers: they lie in the state_dict and on the module's device, with which writing never synchronises.

    Args:
        size: K, number of keys.
        dim: D.
        seed: of the first content.
        written: keys that are ever overwritten, the first ones; default all. HiCo's official code leaves three quarters
            of two queues as they were.
    """

    queue: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int, seed: int = 0, written: int | None = None):
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"size, dim: expected at least 1 each, found {size}, {dim}")
        self.written = size if written is None else written
        if not 1 <= self.written <= size:
            raise ValueError(f"written: expected 1 to size = {size}, found {written}")
        noise = torch.randn(size, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("queue", nn.functional.normalize(noise, dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, keys: Tensor, share: float = 1.0) -> None:
        """Writes keys of any number at the pointer and behind it, around the end where they reach it.

        Within `skelkern.joint_batch` these are the keys of all processes in the order of samples, so that all queues
        stay equal.

        Args:
            keys: (B, dim), or (B, P, dim) of P keys of each sample.
            share: of the keys that is written, the first ones, at least one.

        Raises:
            TypeError: keys are no floating-point tensor.
            ValueError: keys have another dimension or device than the queue, or the share is not in [0, 1].
        """
        check_tensor("keys", keys)
        check_shape("keys", keys, "B P D" if keys.dim() == 3 else "B D", {"D": self.queue.shape[1]})
        check_number("share", share, 0, 1)
        if keys.device != self.queue.device:
            raise ValueError(f"keys: expected the queue's device {self.queue.device}, found {keys.device}")
        keys = gathered(keys.detach().to(self.queue.dtype)).flatten(0, -2)
        if share < 1:
            keys = keys[: max(1, round(keys.shape[0] * share))]
        size, count = self.written, keys.shape[0]
        kept = min(size, count)
        places = torch.arange(count - kept, count, device=keys.device)
        self.queue.index_copy_(0, (self.pointer + places) % size, keys[count - kept :])
        self.pointer.add_(count).remainder_(size)

    def extra_repr(self) -> str:
        size, dim = self.queue.shape
        return f"size={size}, dim={dim}"


@torch.no_grad()
def momentum_update(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Moves every parameter of `target` towards its namesake: target ← momentum · target + (1 − momentum) · source.

    All parameters at once by torch's foreach functions, with the three roundings of the formula. Buffers, batch-norm
    statistics among them, stay the target's own, as in MoCo.

    Args:
        target: the key encoder.
        source: the query encoder.
        momentum: in [0, 1]; 0.999 keeps the target almost where it is.

    Raises:
        ValueError: the modules differ in their parameters' names or shapes, or momentum is out of range.
    """
    check_number("momentum", momentum, low=0, high=1)
    own, others = dict(target.named_parameters()), dict(source.named_parameters())
    if own.keys() != others.keys():
        name = min(own.keys() ^ others.keys())
        raise ValueError(f"source: expected the target's parameters, found that {name!r} is in one of them only")
    for name, parameter in own.items():
        if parameter.shape != others[name].shape:
            raise ValueError(
                f"source: expected shape {tuple(parameter.shape)} of {name!r}, found {tuple(others[name].shape)}"
            )
    if not own:
        return
    targets: list[Tensor] = list(own.values())
    shares: list[Tensor] = list(torch._foreach_mul([others[name].detach() for name in own], 1 - momentum))
    torch._foreach_mul_(targets, momentum)
    torch._foreach_add_(targets, shares)
