"""Which tensors the GPU implementations take, and what their devices are."""

import importlib.util
import os

import torch

from skelkern.dispatch import kernel_why_not

# Triton reads this when it decorates a kernel: kernels then run on tensors of the CPU, in Python.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")
TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
LEAST_CAPABILITY = (8, 0)


def triton_kernel_why_not(*tensors: torch.Tensor | None) -> tuple[str, ...]:
    """`why_not` of the Triton kernels."""
    if not TRITON_INSTALLED:
        return ("triton is not installed (pip install 'skelkern[triton]')",)
    return kernel_why_not("cpu", tensors) if INTERPRETED else kernel_why_not("cuda", tensors, capability_why_not)


def interpreter_is_slow(*tensors: torch.Tensor | None) -> tuple[str, ...]:
    """`slower` of every Triton implementation: "auto" leaves the interpreter to those who name it."""
    return ("TRITON_INTERPRET=1 runs its kernels in Python",) if INTERPRETED else ()


def capability_why_not(device: torch.device) -> tuple[str, ...]:
    """Reasons against a device for which no kernel is made."""
    if torch.version.cuda is None:
        return ("this torch is not built for CUDA",)
    found = capability(device)
    return (
        () if found >= LEAST_CAPABILITY else (f"the device's compute capability is {found[0]}.{found[1]}, below 8.0",)
    )


def capability(device: torch.device) -> tuple[int, int]:
    """Compute capability of a CUDA device; the least that the kernels take where they are interpreted."""
    if INTERPRETED:
        return LEAST_CAPABILITY
    properties = torch.cuda.get_device_properties(device)  # torch.compile knows it as a constant
    return properties.major, properties.minor


def multiprocessors(device: torch.device) -> int:
    """How many a CUDA device has; a few where kernels are interpreted, so that work is split there too."""
    return 3 if INTERPRETED else torch.cuda.get_device_properties(device).multi_processor_count
