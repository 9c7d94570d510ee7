"""What the CUDA implementations share: when they can run, and where. `skelkern._cuda` is imported when first used."""

import functools
import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor

from skelkern.dispatch import KERNEL_DTYPES

BUILT = importlib.util.find_spec("skelkern._cuda") is not None
LEAST_CAPABILITY = (8, 0)


@functools.cache
def cuda_module() -> Any:
    """The compiled kernels, in a build that has them."""
    return importlib.import_module("skelkern._cuda")


def cuda_kernel_why_not(*tensors: Tensor | None) -> tuple[str, ...]:
    """Reasons against a CUDA kernel that computes in float32 and converts half precision on load."""
    reasons = [] if BUILT else ["skelkern was built without CUDA"]
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type != "cuda":
            reasons.append(f"a tensor is on {tensor.device.type}")
        elif tensor.is_floating_point() and tensor.dtype not in KERNEL_DTYPES:
            reasons.append(f"{tensor.dtype} is computed by the reference")
        elif torch.version.cuda is None:
            reasons.append("this torch is not built for CUDA")
        elif (found := _capability(tensor.device)) < LEAST_CAPABILITY:
            reasons.append(f"the device's compute capability is {found[0]}.{found[1]}, below 8.0")
    return tuple(dict.fromkeys(reasons))


def _capability(device: torch.device) -> tuple[int, int]:
    properties = torch.cuda.get_device_properties(device)  # torch.compile knows it as a constant
    return properties.major, properties.minor


def queue(tensor: Tensor) -> tuple[int, int]:
    """Where a kernel on this tensor is launched: its device's number and the address of the current stream there."""
    stream = torch.cuda.current_stream(tensor.device)
    return stream.device_index, stream.cuda_stream


def workspace(like: Tensor, floats: int) -> Tensor:
    """Uninitialised float32 memory on the same device."""
    return like.new_empty(floats, dtype=torch.float32)
