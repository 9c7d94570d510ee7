"""Guards for interpreted kernels: memory before and after every buffer holds NaN and must hold it afterwards.

A kernel that reads beyond a buffer gets NaN, one that writes beyond it changes a canary, and a result that it does not
write stays NaN, because the launchers' `torch.empty` is filled with it.
"""

import importlib.util
import pkgutil

import torch

import skelkern.ops

MARGIN = 1 << 12  # bytes on either side
POISON = 0xFF  # of which every floating-point number is NaN, every signed whole number -1


def guard(monkeypatch):
    """Guards every launch of the library's Triton kernels while a test runs."""
    for module in triton_modules():
        monkeypatch.setattr(module, "launch", guarded_launch)
    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))


def triton_modules():
    """The modules of Triton kernels of all ops that have them."""
    for package in pkgutil.iter_modules(skelkern.ops.__path__, "skelkern.ops."):
        if importlib.util.find_spec(f"{package.name}.triton"):
            yield importlib.import_module(f"{package.name}.triton")


def _poisoned(allocate):
    def poisoned(*args, **kwargs):
        result = allocate(*args, **kwargs)
        if type(result) is torch.Tensor and result.device.type == "cpu" and result.layout == torch.strided:
            _bytes_of(result).fill_(POISON)
        return result

    return poisoned


def _bytes_of(tensor):
    return torch.tensor([], dtype=torch.uint8).set_(tensor.untyped_storage())


def guarded_launch(kernel, grid, *arguments, **options):
    """`triton_support.launch` on copies of the buffers between canaries; results are copied back."""
    from skelkern import triton_support  # here, because it needs Triton

    arenas = {}
    for tensor in arguments:
        if isinstance(tensor, torch.Tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in arenas:
                arena = torch.full((len(storage) + 2 * MARGIN,), POISON, dtype=torch.uint8)
                arena[MARGIN : MARGIN + len(storage)] = _bytes_of(tensor)
                arenas[storage.data_ptr()] = (arena, tensor)
    moved = [_in_arena(value, arenas) if isinstance(value, torch.Tensor) else value for value in arguments]
    triton_support.launch(kernel, grid, *moved, **options)
    for arena, tensor in arenas.values():
        before, after = arena[:MARGIN], arena[len(arena) - MARGIN :]
        assert (before == POISON).all(), f"{kernel.__name__} wrote before a buffer"
        assert (after == POISON).all(), f"{kernel.__name__} wrote behind a buffer"
        _bytes_of(tensor).copy_(arena[MARGIN : len(arena) - MARGIN])


def _in_arena(tensor, arenas):
    arena, _ = arenas[tensor.untyped_storage().data_ptr()]
    place = MARGIN // tensor.element_size() + tensor.storage_offset()
    whole = torch.tensor([], dtype=tensor.dtype).set_(arena.untyped_storage())
    return whole.as_strided(tensor.shape, tensor.stride(), place)
