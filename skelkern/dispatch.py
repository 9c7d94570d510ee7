"""Which implementation of an op runs: chosen per call from the tensors, never at import."""

import inspect
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from skelkern import _cpu

NAMES = ("auto", "reference", "cpu", "triton", "cuda")


def runs_anything(*tensors: torch.Tensor | None) -> tuple[str, ...]:
    """`why_not` of a reference."""
    return ()


@dataclass(frozen=True)
class Implementation:
    """One way to compute an op.

    `why_not(*tensors)` returns the reasons why these tensors cannot run here; an empty tuple means that they can.
    `slower(*tensors)` returns the reasons why a later implementation is as fast for them: "auto" then goes on to it.
    """

    name: str
    run: Callable[..., Any]
    why_not: Callable[..., tuple[str, ...]]
    slower: Callable[..., tuple[str, ...]] = runs_anything

    def why_not_chosen(self, automatically: bool, *tensors: torch.Tensor | None) -> tuple[str, ...]:
        """The reasons against this implementation for these tensors."""
        return self.why_not(*tensors) or (self.slower(*tensors) if automatically else ())


@dataclass(frozen=True)
class Op:
    """A public function's implementations in order of preference; the last is the reference, which runs anything."""

    name: str
    implementations: tuple[Implementation, ...]

    def wanted(self, impl: str) -> str:
        """The name that `impl` stands for; what `use` has set is "reference" for an op that lacks it."""
        if impl != "auto" or _default.impl in ("auto", *(candidate.name for candidate in self.implementations)):
            return _default.impl if impl == "auto" else impl
        return self.implementations[-1].name

    def runs_kernel(self, *tensors: torch.Tensor | None) -> bool:
        """Whether `impl="auto"` computes this op on these tensors by another implementation than the reference."""
        return self.choose("auto", *tensors) is not self.implementations[-1].run

    def choose(self, impl: str, *tensors: torch.Tensor | None) -> Callable[..., Any]:
        """The function that computes this op on these tensors.

        Raises:
            ValueError: `impl` is no implementation's name, or the one it names cannot run on these tensors.
        """
        wanted = self.wanted(impl)
        if wanted == "auto":
            for candidate in self.implementations:
                if not candidate.why_not_chosen(True, *tensors):
                    return candidate.run
        for candidate in self.implementations:
            if candidate.name == wanted:
                reasons = candidate.why_not(*tensors)
                if reasons:
                    raise ValueError(f"{self.name}: impl={wanted!r} cannot run here: {'; '.join(reasons)}")
                return candidate.run
        _check_name(wanted)
        available = ", ".join(repr(candidate.name) for candidate in self.implementations)
        raise ValueError(f"{self.name}: expected impl to be 'auto' or one of {available}, found {wanted!r}")


OPS: dict[str, Op] = {}


def register_op(name: str, *implementations: Implementation) -> Op:
    """Enters an op under its public function's name."""
    OPS[name] = Op(name, implementations)
    return OPS[name]


@dataclass(frozen=True)
class Explanation:
    """Which implementation runs, and why each of the others does not (`reasons`, by name)."""

    op: str
    chosen: str
    reasons: dict[str, tuple[str, ...]]

    def __str__(self) -> str:
        lines = [f"{self.op}: {self.chosen}"]
        for name, reasons in self.reasons.items():
            if name != self.chosen:
                lines.append(f"  not {name}: {'; '.join(reasons)}")
        return "\n".join(lines)


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Which implementation `function(*args, **kwargs)` would run, and why each other would not."""
    op = OPS.get(getattr(function, "__name__", ""))
    if op is None:
        raise ValueError(f"explain: expected a skelkern function ({', '.join(OPS)}), found {function!r}")
    bound = inspect.signature(function).bind(*args, **kwargs)
    impl = bound.arguments.get("impl", "auto")
    return explain_tensors(op, impl, *_tensors(bound.arguments.values()))


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The tensors among the values, and those in sequences of them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def explain_tensors(op: Op, impl: str, *tensors: torch.Tensor) -> Explanation:
    """`explain` for an op and the tensors of a call."""
    wanted = op.wanted(impl)
    reasons: dict[str, tuple[str, ...]] = {}
    chosen = ""
    for candidate in op.implementations:
        found = candidate.why_not_chosen(wanted == "auto", *tensors)
        if not found and wanted not in ("auto", candidate.name):
            found = (f"{wanted!r} was asked for",)
        if not found and chosen:
            found = (f"{chosen!r} is preferred",)
        if not found:
            chosen = candidate.name
        reasons[candidate.name] = found
    return Explanation(op.name, chosen or "nothing", reasons)


@contextmanager
def use(impl: str) -> Iterator[None]:
    """Sets what `impl="auto"` means in this thread: an explicit `impl` argument still wins, an op without that
    implementation runs its reference."""
    _check_name(impl)
    previous, _default.impl = _default.impl, impl
    try:
        yield
    finally:
        _default.impl = previous


def kernel_why_not(
    device: str,
    tensors: Iterable[torch.Tensor | None],
    of_device: Callable[[torch.device], tuple[str, ...]] = lambda device: (),
) -> tuple[str, ...]:
    """Reasons against a kernel that computes in float32 and converts half precision on load.

    Args:
        device: the type of device whose tensors it takes.
        tensors: those of the call.
        of_device: the reasons against one device of that type.
    """
    reasons: list[str] = []
    for tensor in tensors:
        if tensor is None:
            continue
        if tensor.device.type != device:
            reasons.append(f"a tensor is on {tensor.device.type}")
        elif tensor.is_floating_point() and tensor.dtype not in KERNEL_DTYPES:
            reasons.append(f"{tensor.dtype} is computed by the reference")
        else:
            reasons.extend(of_device(tensor.device))
    return tuple(dict.fromkeys(reasons))


# The level of AMD's processors, on which kernels of dense products have been measured against torch's; "" on others,
# where torch's are taken. Known once, as a traced function cannot ask.
MEASURED_LEVEL = _cpu.level() if _cpu.vendor() == "AMD" else ""


def cpu_kernel_why_not(*tensors: torch.Tensor | None) -> tuple[str, ...]:
    """`why_not` of the CPU kernels."""
    return kernel_why_not("cpu", tensors)


KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _check_name(impl: str) -> None:
    if impl not in NAMES:
        raise ValueError(f"impl: expected one of {', '.join(map(repr, NAMES))}, found {impl!r}")


class _Default(threading.local):
    impl = os.environ.get("SKELKERN_IMPL", "auto")


_default = _Default()
_check_name(_default.impl)
