"""Argument checks of the public functions: every error names the argument, what was expected and what was found."""

import math
import os
from collections.abc import Sequence
from typing import Any

import torch


def check_tensor(name: str, value: Any, dtypes: Sequence[torch.dtype] | None = None) -> None:
    """Raises TypeError unless `value` is a tensor of one of `dtypes` (default: any floating-point type)."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, found {type(value).__name__}")
    if dtypes is None:
        if not value.is_floating_point():
            raise TypeError(f"{name}: expected a floating-point tensor, found {value.dtype}")
    elif value.dtype not in dtypes:
        raise TypeError(f"{name}: expected {' or '.join(map(str, dtypes))}, found {value.dtype}")


def check_shape(name: str, value: torch.Tensor, pattern: str, sizes: dict[str, int]) -> None:
    """Raises ValueError unless `value` has the shape of `pattern`, such as "N C T V".

    A letter binds its size in `sizes` where it is met first and must agree from then on; a number must be met exactly.
    """
    letters = pattern.split()
    agrees = value.dim() == len(letters)
    if agrees:
        for letter, size in zip(letters, value.shape, strict=True):
            expected = int(letter) if letter.isdigit() else sizes.setdefault(letter, size)
            agrees = agrees and expected == size
    if not agrees:
        known = ", ".join(f"{key}={sizes[key]}" for key in letters if key in sizes)
        raise ValueError(
            f"{name}: expected shape ({', '.join(letters)}){f' with {known}' if known else ''}, "
            f"found {tuple(value.shape)}"
        )


def check_same(what: str, first_name: str, first: torch.Tensor, **others: torch.Tensor | None) -> None:
    """Raises unless all tensors agree in `what`: TypeError for "dtype", ValueError for "device"."""
    expected = getattr(first, what)
    for name, tensor in others.items():
        if tensor is not None and getattr(tensor, what) != expected:
            error = TypeError if what == "dtype" else ValueError
            raise error(f"{name}: expected {first_name}'s {what} {expected}, found {getattr(tensor, what)}")


def check_alike(**tensors: Any) -> None:
    """Raises unless all are floating-point tensors of the first one's dtype and device; None is left out."""
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if tensor is not None:
            check_tensor(name, tensor)
            check_same("dtype", first_name, first, **{name: tensor})
            check_same("device", first_name, first, **{name: tensor})


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises unless `value` is a number in [low, high]; infinities and NaN are refused."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number, found {type(value).__name__}")
    if not (low <= value <= high) or math.isinf(value):
        raise ValueError(f"{name}: expected a finite number in [{low}, {high}], found {value}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, found {value!r}")


def check_count(name: str, value: Any, low: int, high: int) -> None:
    """Raises unless `value` is a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
        raise TypeError(f"{name}: expected a whole number, found {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name}: expected a whole number in [{low}, {high}], found {value}")


def checks_values(tensor: torch.Tensor) -> bool:
    """Whether a tensor's values may be looked at: not while compiling, and on a GPU, where that waits for it, only with
    SKELKERN_CHECKS=1."""
    if torch.compiler.is_compiling():
        return False
    return tensor.device.type == "cpu" or os.environ.get("SKELKERN_CHECKS", "0") == "1"


def check_clouds(points: Any, mask: Any) -> int:
    """Raises unless points are (B, N, D) and mask is None or bool (B, N) on the same device; returns N."""
    sizes: dict[str, int] = {}
    check_tensor("points", points)
    check_shape("points", points, "B N D", sizes)
    if mask is not None:
        check_tensor("mask", mask, (torch.bool,))
        check_shape("mask", mask, "B N", sizes)
        check_same("device", "points", points, mask=mask)
    return sizes["N"]
