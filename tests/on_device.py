"""Tensors that tests make, on the device of the implementation under test."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

TESTS = str(Path(__file__).parent)
FACTORIES = {
    *(torch.arange, torch.empty, torch.eye, torch.full, torch.linspace, torch.ones),
    *(torch.rand, torch.randint, torch.randn, torch.randperm, torch.tensor, torch.zeros),
}


class TensorsOfTests(TorchFunctionMode):
    """What a test makes without naming a device is made on the CPU, from the same random numbers, and moved."""

    def __init__(self, device: str):
        super().__init__()
        self.device = device

    def stay(self) -> None:
        """From now on: modules of tests make tensors when they are imported."""
        global _staying
        _staying = self
        self.__enter__()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        by_test = sys._getframe(1).f_code.co_filename.startswith(TESTS)
        if function not in FACTORIES or "device" in kwargs or not by_test:
            return function(*args, **kwargs)
        requires_grad = kwargs.pop("requires_grad", False)
        return function(*args, **kwargs).to(self.device).requires_grad_(requires_grad)


_staying: TensorsOfTests | None = None


@contextmanager
def as_usual() -> Iterator[None]:
    """For compilers, which would trace what moves tensors."""
    if _staying is not None:
        _staying.__exit__(None, None, None)
    yield
    if _staying is not None:
        _staying.__enter__()
