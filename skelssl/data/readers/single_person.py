"""What the data sets of one person and several views have in common."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from skelssl.data.preprocessings.persons import PERSON_PREPROCESSINGS, interpolate_lost_joints
from skelssl.data.recordings import Bodies, History
from skelssl.data.store import StoreError


def check_preprocessing(preprocessing: str) -> None:
    """Raises a StoreError unless a preprocessing is one of single persons."""
    if preprocessing not in PERSON_PREPROCESSINGS:
        raise StoreError(f"preprocessing: expected one of {', '.join(PERSON_PREPROCESSINGS)}, found {preprocessing!r}")


def refuse_twins(source: Path, names: Iterable[str]) -> None:
    """Raises a StoreError where a name occurs twice."""
    for one, following in itertools.pairwise(sorted(names)):
        if one == following:
            raise StoreError(f"{source}: {one} occurs more than once")


def bodies_of_person(name: str, skeletons: np.ndarray, preprocessing: str, history: History) -> Bodies:
    """Of (T, 1, V, 3); joints that the tracker lost are interpolated, unless they are wanted as they are."""
    if preprocessing != "raw":
        skeletons, replaced = interpolate_lost_joints(skeletons)
        if replaced:
            history.repair("lost joints interpolated", f"{name}: {replaced}")
    return Bodies.from_slots(skeletons)
