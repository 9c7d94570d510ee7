"""Which tensors the GPU implementations take, and what their devices are."""

import importlib.util
import os

import torch

from skelkern.dispatch import KERNEL_DTYPES

# Triton reads this when it decorates a kernel: kernels then run on tensors of the CPU, in Python.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")
TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
LEAST_CAPABILITY = (8, 0)


def triton_kernel_why_not(*tensors: torch.Tensor | None) -> tuple[str, ...]:
    """Reasons against a Triton kernel that computes in float32 and converts half precision on load."""
    reasons = [] if TRITON_INSTALLED else ["triton is not installed (pip install 'skelkern[triton]')"]
    device = "cpu" if INTERPRETED else "cuda"
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type != device:
            reasons.append(f"a tensor is on {tensor.device.type}")
        elif tensor.is_floating_point() and tensor.dtype not in KERNEL_DTYPES:
            reasons.append(f"{tensor.dtype} is computed by the reference")
        elif device == "cuda" and capability(tensor.device) < LEAST_CAPABILITY:
            found = ".".join(map(str, capability(tensor.device)))
            reasons.append(f"the device's compute capability is {found}, below 8.0")
    return tuple(dict.fromkeys(reasons))


def interpreter_is_slow(*tensors: torch.Tensor | None) -> tuple[str, ...]:
    """`slower` of every Triton implementation: "auto" leaves the interpreter to those who name it."""
    return ("TRITON_INTERPRET=1 runs its kernels in Python",) if INTERPRETED else ()


def capability(device: torch.device) -> tuple[int, int]:
    """Compute capability of a CUDA device; the least that the kernels take where they are interpreted."""
    if INTERPRETED:
        return LEAST_CAPABILITY
    properties = torch.cuda.get_device_properties(device)  # torch.compile knows it as a constant
    return properties.major, properties.minor


def multiprocessors(device: torch.device) -> int:
    """How many a CUDA device has; a few where kernels are interpreted, so that work is split there too."""
    return 3 if INTERPRETED else torch.cuda.get_device_properties(device).multi_processor_count
