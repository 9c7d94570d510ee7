"""Functions that follow torch's autocast."""

from typing import Any

import torch
from torch import Tensor


def follow_autocast(*tensors: Any) -> tuple[Any, ...]:
    """The tensors in the autocast dtype, where autocast is on for their device; float64 and None as they are."""
    device = next((tensor.device.type for tensor in tensors if isinstance(tensor, Tensor)), "cpu")
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    narrower = (torch.float32, torch.float16, torch.bfloat16)
    return tuple(t.to(dtype) if isinstance(t, Tensor) and t.dtype in narrower else t for t in tensors)
