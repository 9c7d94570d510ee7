"""NumPy arrays in, NumPy arrays out, for functions without gradients."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def accepts_numpy(function: Function) -> Function:
    """Lets a function of tensors take arrays: they are shared, not copied, and so are the results then returned."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(value, np.ndarray) for value in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        result = function(*map(_as_tensor, args), **{name: _as_tensor(value) for name, value in kwargs.items()})
        return tuple(map(_as_array, result)) if isinstance(result, tuple) else _as_array(result)

    return wrapper  # type: ignore[return-value]


def _as_tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # kernels never write to inputs
        return torch.from_numpy(value if all(stride >= 0 for stride in value.strides) else value.copy())


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
