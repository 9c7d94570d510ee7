"""What readers and writers of several formats share: labels, names, splits, which data set and skeleton it is."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from skelssl import skeletons
from skelssl.data.readers.ntu import CLASSES, SETUPS, published
from skelssl.data.store import Store, StoreError

NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
LARGEST_NUMBER = 100_000


def ntu_numbers(name: str) -> dict[str, int]:
    """Subject, camera and setup that a name of NTU RGB+D states; nothing of other names."""
    match = NTU_NAME.fullmatch(name)
    if match is None:
        return {}
    setup, camera, subject, _, _ = map(int, match.groups())
    return {"subject": subject, "camera": camera, "setup": setup}


def identify(names: Sequence[str], classes: int, skeleton: str, otherwise: str) -> tuple[str, list[str]]:
    """(data set, class names) that samples are of: NTU RGB+D by names, or by classes where names are lost.

    Args:
        names: of all samples, without endings; numbered ones where the source has none.
        classes: their number.
        skeleton: its layout's name.
        otherwise: the data set's name if it is none of them.
    """
    matches = [NTU_NAME.fullmatch(name) for name in names]
    numbers = [tuple(map(int, match.groups())) for match in matches if match is not None]
    for kind, setups in SETUPS.items():
        if names and len(numbers) == len(names):
            known = all(number[0] <= setups and number[-1] <= CLASSES[kind] for number in numbers)
        else:
            known = not numbers and classes == CLASSES[kind] and skeleton == "ntu25"
        if known and classes <= CLASSES[kind]:
            return kind, published()["classes"][: CLASSES[kind]]
    return otherwise, [f"class {label}" for label in range(classes)]


def skeleton_of(joints: int, channels: int, named: str) -> str:
    """The library's skeleton with so many joints; of two with as many, Kinect's is meant by points in space.

    Raises:
        StoreError: there is none.
    """
    sizes = {name: skeletons.get(name).num_joints for name in skeletons.names()}
    found = [name for name, size in sizes.items() if size == joints]
    if not found:
        raise StoreError(
            f"{named}: expected joints of a known skeleton ({', '.join(f'{n} {s}' for n, s in sizes.items())}), "
            f"found {joints}; the kind 'arrays' reads skeletons of your own"
        )
    return next((name for name in found if name.startswith("openpose") == (channels == 2)), found[0])


def whole_numbers(values: Any, named: str, what: str = "labels") -> np.ndarray:
    """(N) int64 of labels, or other numbers of samples, as formats hold them: a list, (N) or (N, 1).

    Raises:
        StoreError: they are not whole numbers from 0 on; the message calls them `what`.
    """
    array = values if isinstance(values, np.ndarray) else _array_of(values, named, what)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise StoreError(f"{named}: expected (N) whole numbers as {what}, found {array.shape} {array.dtype}")
    wrong = np.flatnonzero((array < 0) | (array >= LARGEST_NUMBER))
    if wrong.size:
        raise StoreError(
            f"{named}: expected {what} in [0, {LARGEST_NUMBER}), found {array[wrong[0]]} of sample {wrong[0]}"
        )
    return array.astype(np.int64)


def _array_of(values: Any, named: str, what: str) -> np.ndarray:
    """Of a list; NumPy itself would follow lists that hold themselves without end."""
    if not isinstance(values, (list, tuple)):
        raise StoreError(f"{named}: expected (N) whole numbers as {what}, found {type(values).__name__}")
    flat = [value[0] if type(value) in (list, tuple) and len(value) == 1 else value for value in values]
    for place, value in enumerate(flat):
        if type(value) is not int or abs(value) >= 2**63:
            shown = "a number beyond 64 bits" if type(value) is int else type(value).__name__
            raise StoreError(f"{named}: expected whole numbers as {what}, found {shown} of sample {place}")
    return np.array(flat, np.int64)


def check_split_name(name: Any, named: str) -> None:
    """Raises a StoreError where a split cannot be called so: it becomes a file's name."""
    if not isinstance(name, str) or SPLIT_NAME.fullmatch(name) is None:
        raise StoreError(f"{named}: expected names of letters, digits, - and _, found {str(name)[:40]!r}")


def without_ending(name: Any, named: str) -> str:
    """A sample's name, without `.skeleton`.

    Raises:
        StoreError: it is no text.
    """
    if not isinstance(name, str):
        raise StoreError(f"{named}: expected names of samples as text, found {type(name).__name__}")
    return name.removesuffix(".skeleton")


def check_names(names: Sequence[str], named: str) -> None:
    """Raises a StoreError where a name occurs twice."""
    if len(set(names)) != len(names):
        twice, _ = Counter(names).most_common(1)[0]
        raise StoreError(f"{named}: {twice} occurs more than once")


def used_frames(sequence: np.ndarray, named: str, *, padded: bool) -> np.ndarray:
    """(T, M, V, C) float32; no frames at all where all are empty, and none of those at its end if it is padded.

    Raises:
        StoreError: it holds NaN, infinity, or numbers beyond float32.
    """
    with np.errstate(over="ignore"):
        sequence = sequence.astype(np.float32)
    if not np.isfinite(sequence).all():
        raise StoreError(f"{named}: expected finite coordinates, found NaN or infinity")
    used = np.flatnonzero(sequence.any(axis=(1, 2, 3)))
    if not used.size:
        return sequence[:0]
    return sequence[: used[-1] + 1] if padded else sequence


def protocols(store: Store) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(training, test) samples of each protocol, "" the one whose splits are train and test alone.

    Raises:
        StoreError: there is none.
    """
    found = {}
    for name, train in store.splits.items():
        if name == "train" or name.endswith("_train"):
            test = store.splits.get(name.removesuffix("train") + "test")
            if test is not None:
                found[name.removesuffix("train").removesuffix("_")] = (train, test)
    if not found:
        raise StoreError(
            f"{store.path}: expected splits such as xsub_train and xsub_test, found {', '.join(store.splits) or 'none'}"
        )
    return found


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that comes to its place when it is complete; what fails leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def check_persons(store: Store, most: int, kind: str) -> None:
    """Raises a StoreError where samples show more persons than a format holds."""
    if store.frames.shape[1] > most:
        raise StoreError(f"{store.path}: expected at most {most} persons for {kind}, found {store.frames.shape[1]}")
