"""Sequences (T, M, V, C) out of arrays whose axes have any order: padded, one behind the other, or one array each."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelssl.data.formats.npy import NpyHeader, Npz, map_npy, read_header
from skelssl.data.store import StoreError

AXES = "NTMVC"  # samples, frames, persons, joints, channels


@dataclass(frozen=True)
class Points:
    """Sequences that are read one by one.

    Attributes:
        count: of sequences.
        persons: M of each.
        names: of the arrays, where each sequence has one.
        padded: empty frames at a sequence's end are none of it.
        read: starts to read them.
    """

    count: int
    persons: int
    names: list[str] | None
    padded: bool
    read: Callable[[], Iterator[np.ndarray]]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.read()


def check_axes(axes: str, dimensions: int, named: str) -> None:
    """Raises a StoreError where `axes` does not name the axes of an array with so many."""
    known = len(set(axes)) == len(axes) and set("TVC") <= set(axes) <= set(AXES)
    if not known:
        raise StoreError(f"{named}: expected T, V, C, and perhaps N and M, each once, as in NCTVM, found {axes!r}")
    if len(axes) != dimensions:
        raise StoreError(f"{named}: expected an array with the axes {axes}, found {dimensions} axes")


def padded(path: Path, key: str, axes: str, lengths: np.ndarray | None) -> Points:
    """Of an array with an axis of samples; a sequence's frames are the first ones, as many as `lengths` says."""
    named = f"{path}: {key}" if key else str(path)
    header = _header(path, key)
    check_axes(axes, len(header.shape), named)
    count, frames = (header.shape[axes.index(letter)] for letter in "NT")
    if lengths is not None and (len(lengths) != count or (lengths > frames).any()):
        raise StoreError(
            f"{named}: expected {count} lengths of at most {frames} frames, "
            f"found {len(lengths)} of at most {lengths.max(initial=0)}"
        )

    def read() -> Iterator[np.ndarray]:
        rows = _rows(path, key, axes.index("N"))
        for number, row in enumerate(rows):
            yield arranged(row, axes.replace("N", ""))[: None if lengths is None else lengths[number]]

    return Points(count, _persons(header, axes), None, lengths is None, read)


def behind_each_other(path: Path, key: str, axes: str, offsets: np.ndarray) -> Points:
    """Of an array that holds all sequences; sequence s has the frames offsets[s] to offsets[s + 1]."""
    named = f"{path}: {key}" if key else str(path)
    header = _header(path, key)
    check_axes(axes, len(header.shape), named)
    frames = header.shape[axes.index("T")]
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != frames or (np.diff(offsets) < 0).any():
        raise StoreError(f"{named}: expected offsets that rise from 0 to {frames} frames, found others")

    def read() -> Iterator[np.ndarray]:
        whole = arranged(_whole(path, key), axes)
        for first, last in itertools.pairwise(offsets):
            yield whole[first:last]

    return Points(len(offsets) - 1, _persons(header, axes), None, False, read)


def one_each(path: Path, pattern: str, axes: str) -> Points:
    """Of arrays of an .npz file whose keys begin with `pattern`, or files of a folder, by name."""
    files = [(path, key) for key in Npz(path).keys if key.startswith(pattern)] if pattern else []
    files = files or [(file, "") for file in sorted(path.parent.glob(path.name))]
    if not files:
        raise StoreError(f"{path}: expected arrays {pattern or path.name!r}, found none")
    headers = {file: _header(*file) for file in files}
    for (file, key), header in headers.items():
        check_axes(axes, len(header.shape), f"{file}: {key}" if key else str(file))
    persons = {_persons(header, axes) for header in headers.values()}
    if len(persons) != 1:
        raise StoreError(f"{path}: expected arrays of as many persons, found {sorted(persons)}")

    def read() -> Iterator[np.ndarray]:
        for file, key in files:
            yield arranged(_whole(file, key), axes)

    return Points(len(files), persons.pop(), [key or file.stem for file, key in files], False, read)


def arranged(array: np.ndarray, axes: str) -> np.ndarray:
    """(T, M, V, C) of an array with these axes; one person where there is no axis M."""
    moved = array.transpose([axes.index(letter) for letter in AXES if letter in axes])
    return moved if "M" in axes else moved[:, None]


def _persons(header: NpyHeader, axes: str) -> int:
    return header.shape[axes.index("M")] if "M" in axes else 1


def _header(path: Path, key: str) -> NpyHeader:
    if key:
        header = Npz(path).header(key)
    else:
        try:
            with path.open("rb") as file:
                header = read_header(file, str(path))
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error}") from None
    if header.dtype.kind not in "fiu":
        raise StoreError(f"{path}: {key or 'points'}: expected points as numbers, found {header.dtype}")
    return header


def _rows(path: Path, key: str, axis: int) -> Iterator[np.ndarray]:
    if key and axis == 0 and not Npz(path).header(key).by_columns:
        return Npz(path).rows(key)
    return iter(np.moveaxis(_whole(path, key), axis, 0))


def _whole(path: Path, key: str) -> np.ndarray:
    return Npz(path).load(key) if key else map_npy(path)
