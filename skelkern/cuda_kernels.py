"""What the CUDA implementations share: when they can run, and where. `skelkern._cuda` is imported when first used."""

import functools
import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor

from skelkern.dispatch import kernel_why_not
from skelkern.gpu import capability_why_not

MOST_POINTS = 2**31
BUILT = importlib.util.find_spec("skelkern._cuda") is not None


@functools.cache
def cuda_module() -> Any:
    """The compiled kernels, in a build that has them."""
    return importlib.import_module("skelkern._cuda")


def cuda_kernel_why_not(*tensors: Tensor | None) -> tuple[str, ...]:
    """`why_not` of the CUDA kernels."""
    missing = () if BUILT else ("skelkern was built without CUDA",)
    return missing + kernel_why_not("cuda", tensors, capability_why_not)


def clouds_why_not(*tensors: Tensor | None) -> tuple[str, ...]:
    """`why_not` of the CUDA kernels that number the points of clouds (B, N, D) by 32 bits."""
    reasons = cuda_kernel_why_not(*tensors)
    for tensor in tensors:
        if tensor is not None and tensor.dim() == 3 and tensor.shape[1] >= MOST_POINTS:
            reasons = (*reasons, f"a cloud of {tensor.shape[1]} points, not below {MOST_POINTS}")
    return reasons


def queue(tensor: Tensor) -> tuple[int, int]:
    """Where a kernel on this tensor is launched: its device's number and the address of the current stream there."""
    stream = torch.cuda.current_stream(tensor.device)
    return stream.device_index, stream.cuda_stream


def workspace(like: Tensor, floats: int) -> Tensor:
    """Uninitialised float32 memory on the same device."""
    return like.new_empty(floats, dtype=torch.float32)
