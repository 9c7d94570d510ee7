"""All encoders by name."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from skelssl import skeletons
from skelssl.encoders.agcn import AGCN
from skelssl.encoders.bigru import BiGRU
from skelssl.encoders.clouds import CloudEncoder
from skelssl.encoders.hcn import HCN
from skelssl.encoders.hierarchical import HierarchicalEncoder
from skelssl.encoders.stgcn import STGCN
from skelssl.skeletons import Skeleton

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "agcn": AGCN,
    "bigru": BiGRU,
    "dgcnn": CloudEncoder,
    "hcn": HCN,
    "hico-gru": partial(HierarchicalEncoder, sequence_encoder="gru"),
    "hico-lstm": partial(HierarchicalEncoder, sequence_encoder="lstm"),
    "hico-transformer": partial(HierarchicalEncoder, sequence_encoder="transformer"),
    "stgcn": STGCN,
}


def names() -> tuple[str, ...]:
    """The encoders that `create` knows."""
    return tuple(ENCODERS)


def create(
    name: str, skeleton: str | Path | Skeleton, in_channels: int = 3, persons: int = 2, **options: Any
) -> nn.Module:
    """An encoder with fresh weights: clips (N, C, T, V, M) float32 -> features (N, F), F being its `feature_dim`.

    Args:
        name: one of `names()`.
        skeleton: of the clips, or its name or YAML file for `skelssl.skeletons.get`.
        in_channels: C.
        persons: M; encoders whose weights do not depend on it take any number.
        options: further arguments of the encoder's class, such as `frames` (T, 64) of "hcn" and those of HiCo.

    Raises:
        ValueError: no such encoder, skeleton or option, or an option's value does not fit.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder: expected one of {', '.join(ENCODERS)}, found {name!r}{_nearest(name, ENCODERS)}")
    make, own = ENCODERS[name], options_of(name)
    for option in options:
        if option not in own:
            expected = f"expected options among {', '.join(own)}" if own else "expected no options"
            raise ValueError(f"{name}: {expected}, found {option!r}{_nearest(option, own)}")
    if "persons" in inspect.signature(make).parameters:
        options["persons"] = persons
    return make(
        skeleton if isinstance(skeleton, Skeleton) else skeletons.get(skeleton), in_channels=in_channels, **options
    )


def options_of(name: str) -> tuple[str, ...]:
    """The names of an encoder's own options."""
    make = ENCODERS[name]
    given = {"skeleton", "in_channels", "persons", *(make.keywords if isinstance(make, partial) else ())}
    return tuple(option for option in inspect.signature(make).parameters if option not in given)


def _nearest(word: str, words: Iterable[str]) -> str:
    """A hint at the word that may have been meant."""
    found = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
