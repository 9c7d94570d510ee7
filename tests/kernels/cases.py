"""One small case of every op for the checks that all ops share (`test_every_op.py`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import skelkern


@dataclass(frozen=True)
class OpCase:
    """`make_inputs(seed)` gives keyword arguments of `function`, tensors in float32."""

    function: Callable[..., Any]
    make_inputs: Callable[[int], dict[str, Any]]
    differentiable: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.function.__name__


def cross_correlation_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    z1 = torch.randn(19, 300, generator=generator)
    return {"z1": z1, "z2": z1 + torch.randn(19, 300, generator=generator), "off_diagonal_weight": 2e-3}


CASES = [
    OpCase(skelkern.cross_correlation_loss, cross_correlation_inputs, ("z1", "z2")),
]
