"""Folders of a protocol's halves: train and val arrays (N, C, T, V, M) with labels beside them.

`xsub/train_position.npy` with `xsub/train_label.pkl`, and so on; one folder, or the folder above several of them, whose
samples are then the same ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelssl.data.formats.common import (
    check_names,
    identify,
    ntu_numbers,
    skeleton_of,
    used_frames,
    whole_numbers,
    without_ending,
)
from skelssl.data.formats.npy import map_npy
from skelssl.data.pipeline import DataSet, Sequence, with_bar, write_sequences
from skelssl.data.recordings import History
from skelssl.data.store import Store, StoreError
from skelssl.data.unpickle import unpickle

PROTOCOLS = {"xsub": "xsub", "xview": "xview", "xsetup": "xset", "xset": "xset"}
HALVES = {"train": "train", "val": "test"}


@dataclass(frozen=True)
class Half:
    """One half of a protocol: points (N, C, T, V, M), mapped, labels (N), names or None, lengths (N) or None.

    `padded`: without lengths, empty frames at a sequence's end are none of it.
    """

    split: str
    path: Path
    points: np.ndarray
    labels: np.ndarray
    names: list[str] | None
    lengths: np.ndarray | None
    padded: bool

    def frames(self, number: int) -> np.ndarray:
        """(T, M, V, C) of one sample, at its length."""
        named = f"{self.path}: sample {number}"
        sequence = self.points[number].transpose(1, 3, 2, 0)
        if self.lengths is None:
            return used_frames(sequence, named, padded=self.padded)
        return used_frames(sequence[: self.lengths[number]], named, padded=False)


def prepare_parts(
    source: Path,
    out: Path,
    suffix: str,
    preprocessing: str,
    lengths: Callable[[Path, str], Path | None] | None,
    progress: bool,
) -> Store:
    """Reads folders into a store; the arrays are mapped.

    Args:
        source: the folder of a protocol, or one with folders of several.
        out: the store's folder.
        suffix: of the arrays' names behind `train` and `val`.
        preprocessing: the name of what has been done to the skeletons.
        lengths: of (folder, half), the file with the samples' numbers of frames, or None where there is none and empty
            frames at the end are left out; None for arrays whose samples fill them.
        progress: show a bar.

    Raises:
        StoreError: a file is missing or damaged, arrays and labels do not fit, or samples of one name differ.
    """
    halves = [
        _half(folder, half, prefix, suffix, lengths) for folder, prefix in _folders(source, suffix) for half in HALVES
    ]
    shapes = {half.points.shape[1:2] + half.points.shape[3:] for half in halves}
    if len(shapes) != 1:
        raise StoreError(f"{source}: expected arrays of the same channels, joints and persons, found {sorted(shapes)}")
    channels, joints, persons = shapes.pop()
    skeleton, history = skeleton_of(joints, channels, str(source)), History()
    named = [name for half in halves for name in half.names or ()]
    classes = 1 + max(int(half.labels.max(initial=0)) for half in halves)
    dataset, class_names = identify(named, classes, skeleton, source.resolve().name)
    members: dict[str, list[str]] = {half.split: [] for half in halves}

    def splits(per_sample: dict[str, np.ndarray], kept: list[str]) -> dict[str, np.ndarray]:
        places = {name: place for place, name in enumerate(kept)}
        return {split: np.array([places[name] for name in names], np.int64) for split, names in members.items()}

    data_set = DataSet(dataset, skeleton, class_names, persons, splits)
    sequences = with_bar(_sequences(halves, members, history), sum(len(half.labels) for half in halves), progress)
    return write_sequences(sequences, data_set, preprocessing, "metres", history, out)


def _folders(source: Path, suffix: str) -> list[tuple[Path, str]]:
    """(folder, prefix of its splits)."""
    if (source / f"train{suffix}").is_file() or (source / f"val{suffix}").is_file():
        protocol = PROTOCOLS.get(source.resolve().name)
        return [(source, f"{protocol}_" if protocol else "")]
    found = [(source / name, f"{protocol}_") for name, protocol in PROTOCOLS.items() if (source / name).is_dir()]
    if not found:
        raise StoreError(
            f"{source}: expected train{suffix} and val{suffix}, or folders {', '.join(PROTOCOLS)} of them, found none"
        )
    return found


def _half(
    folder: Path, half: str, prefix: str, suffix: str, lengths: Callable[[Path, str], Path | None] | None
) -> Half:
    path = folder / f"{half}{suffix}"
    points = map_npy(path)
    if points.ndim != 5 or points.dtype.kind != "f" or 0 in points.shape[1:]:
        raise StoreError(f"{path}: expected (N, C, T, V, M) floats, found {points.shape} {points.dtype}")
    names, labels = _labels(folder, half)
    if len(labels) != len(points):
        raise StoreError(f"{path}: expected {len(labels)} samples, as labels, found {len(points)}")
    file = lengths(folder, half) if lengths is not None else None
    counts = None if file is None else _lengths(file, points)
    return Half(prefix + HALVES[half], path, points, labels, names, counts, padded=lengths is not None)


def _labels(folder: Path, half: str) -> tuple[list[str] | None, np.ndarray]:
    pickled, plain = folder / f"{half}_label.pkl", folder / f"{half}_label.npy"
    if not pickled.is_file():
        if not plain.is_file():
            raise StoreError(f"{folder}: expected {pickled.name} or {plain.name}, found none of them")
        return None, whole_numbers(map_npy(plain), str(plain))
    data = unpickle(pickled)
    if not isinstance(data, (tuple, list)) or len(data) != 2 or not isinstance(data[0], (list, tuple)):
        raise StoreError(f"{pickled}: expected (names, labels), found {type(data).__name__}")
    names, labels = [without_ending(name, str(pickled)) for name in data[0]], whole_numbers(data[1], str(pickled))
    check_names(names, str(pickled))
    if len(names) != len(labels):
        raise StoreError(f"{pickled}: expected as many labels as names, found {len(labels)} and {len(names)}")
    return names, labels


def _lengths(path: Path, points: np.ndarray) -> np.ndarray:
    counts = whole_numbers(map_npy(path), str(path), "lengths")
    if counts.shape != (len(points),) or (counts > points.shape[2]).any():
        raise StoreError(
            f"{path}: expected {len(points)} lengths of at most {points.shape[2]} frames, "
            f"found {len(counts)} of at most {counts.max(initial=0)}"
        )
    return counts


def _sequences(halves: list[Half], members: dict[str, list[str]], history: History) -> Iterator[Sequence]:
    """Every sample once; those of a later protocol must be the same ones."""
    known: dict[str, tuple[Half, int]] = {}
    nameless = [half for half in halves if half.names is None]
    if nameless and len({half.path.parent for half in halves}) > 1:
        raise StoreError(
            f"{nameless[0].path}: expected names of samples where there are several protocols: read each folder alone"
        )
    for half in halves:
        for number, label in enumerate(half.labels):
            name = half.names[number] if half.names is not None else f"{half.path.name.partition('_')[0]}_{number}"
            frames = half.frames(number)
            if name in known:
                _check_same(known[name], half, number, frames, name)
            else:
                known[name] = half, number
                if not len(frames):
                    history.leave_out("no body", name)
                    continue
                yield Sequence(name, frames, int(label), **ntu_numbers(name))
            if len(frames):
                members[half.split].append(name)


def _check_same(known: tuple[Half, int], half: Half, number: int, frames: np.ndarray, name: str) -> None:
    other, place = known
    if other.path.parent == half.path.parent:
        raise StoreError(f"{half.path}: {name} is in {other.path.name} as well")
    if half.labels[number] != other.labels[place] or not np.array_equal(frames, other.frames(place)):
        raise StoreError(f"{half.path}: {name} differs from {other.path}: read each folder alone")
