"""Memory that is kept instead of being unmapped and faulted in again: of the kernels' results, and of torch itself."""

import math

import torch

from skelkern import _cpu

KEPT_FROM = 2**18  # floats; what is smaller the C library keeps anyway
_reused = False


def empty_output(*shape: int) -> torch.Tensor:
    """Uninitialised float32 CPU memory for a kernel's result; large results get that of earlier ones that have died."""
    if math.prod(shape) < KEPT_FROM:
        return torch.empty(shape)
    return torch.from_numpy(_cpu.kept_array(shape))


def empty_cache() -> None:
    """Frees the memory of dead results that is kept for later ones, at most as much as results have needed at once."""
    _cpu.free_kept_memory()


def reuse_memory(on: bool = True) -> bool:
    """Lets the C library keep freed memory of any size for later allocations, in the whole process.

    By default glibc maps every tensor above 32 MiB afresh and unmaps it when it dies, and faulting it in again can take
    much of a training step, of plain PyTorch too. While this is on the process keeps what it has once allocated:
    its resident memory stays at its peak, and fragmentation may add to it. Off restores glibc's defaults, whatever
    environment variables had set, and gives free memory back to the system; free blocks within the heap go on being
    used before new ones are mapped.

    Args:
        on: whether memory is kept.

    Returns:
        Whether it was on before.

    Raises:
        NotImplementedError: the C library is not glibc.
    """
    global _reused
    if not _cpu.reuse_memory(on):
        raise NotImplementedError("reuse_memory: expected the GNU C library, found another one")
    before, _reused = _reused, on
    return before
