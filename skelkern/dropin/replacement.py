"""Modules that compute what they computed before by another forward, and nothing else of them changes."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn


class RefusedError(Exception):
    """A module resembles one that can be replaced, and is left as it is; the message says why."""


class Replacement(nn.Module):
    """A forward that takes the place of another module's.

    A replaced module stays the same object: its class becomes one that derives from the replacement and from the class
    it had. Parameters, buffers, submodules, hooks, attributes and methods other than `forward` are its own as before;
    it can be copied and pickled.
    """

    source: ClassVar[str]  # what is recognised, in words of the field
    fused: ClassVar[Sequence[str]] = ()  # submodules that are not called any more, by name; hooks on them would not run

    @classmethod
    def recognises(cls, module: nn.Module) -> bool:
        """Whether the module is a candidate, by its class, attributes and shapes.

        Raises:
            RefusedError: it resembles a candidate, and some property rules it out.
        """
        raise NotImplementedError

    @classmethod
    def example(cls, module: Any) -> tuple[Any, ...]:
        """Arguments of the module's forward, small ones, tensors of random numbers among them."""
        raise NotImplementedError


_classes: dict[tuple[type, type], type[nn.Module]] = {}


def replaced_class(replacement: type[Replacement], original: type[nn.Module]) -> type[nn.Module]:
    """The class of a replaced module, which goes by its original's name."""
    if (replacement, original) in _classes:
        return _classes[replacement, original]
    members = {
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__reduce_ex__": _reduce,
        "_replacement": replacement,
        "_original": original,
    }
    _classes[replacement, original] = type(original.__name__, (replacement, original), members)
    return _classes[replacement, original]


def replace(module: nn.Module, replacement: type[Replacement]) -> None:
    """Gives the module the replacement's forward."""
    module.__class__ = replaced_class(replacement, type(module))


def replacement_of(module: nn.Module) -> type[Replacement] | None:
    """What has replaced the module's forward, if anything."""
    return getattr(type(module), "_replacement", None)


def undo(module: nn.Module) -> None:
    """Gives a replaced module its own class back."""
    kind: Any = type(module)
    module.__class__ = kind._original


def _rebuild(replacement: type[Replacement], original: type[nn.Module]) -> nn.Module:
    kind = replaced_class(replacement, original)
    return kind.__new__(kind)


def _reduce(module: nn.Module, protocol: int) -> tuple[Any, ...]:
    """Pickles and copies by the two classes, which can be found by name, unlike the one made of them."""
    kind: Any = type(module)
    return _rebuild, (kind._replacement, kind._original), module.__dict__
