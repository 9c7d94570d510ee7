"""From recordings through a preprocessing into a store, one after the other."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from skelssl import skeletons
from skelssl.data.preprocessings import find_preprocessing
from skelssl.data.preprocessings.finite import with_finite_joints
from skelssl.data.recordings import History, LeftOutError, Preprocessing, Recording
from skelssl.data.store import PER_SAMPLE, Header, Store
from skelssl.data.writer import StoreWriter

T = TypeVar("T")


@dataclass(frozen=True)
class DataSet:
    """What the recordings of a data set share.

    Attributes:
        name: as in recipes.
        skeleton: its layout's name.
        class_names: by label.
        persons: that a sample shows.
        splits: samples by split, of the store's arrays (S) of labels, subjects, cameras and setups, and its names.
    """

    name: str
    skeleton: str
    class_names: list[str]
    persons: int
    splits: Callable[[dict[str, np.ndarray], list[str]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Sequence:
    """A sample as the store holds it: frames (T, M, V, C), and its numbers, -1 where the source says nothing."""

    name: str
    frames: np.ndarray
    label: int
    subject: int = -1
    camera: int = -1
    setup: int = -1


def write_recordings(
    recordings: Iterable[Recording], data_set: DataSet, preprocessing: str, history: History, out: Path | str
) -> Store:
    """Preprocesses recordings and writes those that have bodies; memory stays that of a few of them.

    Args:
        recordings: in the order of the store; read as they are needed.
        data_set: what they share.
        preprocessing: a name of `skelssl.data.preprocessings`.
        history: of reading; becomes the store's together with what preprocessing does.
        out: the store's folder.

    Raises:
        StoreError: there is no such preprocessing, no recording with a body, or the disk refuses.
    """
    process, skeleton = find_preprocessing(preprocessing), skeletons.get(data_set.skeleton)

    def sequences() -> Iterator[Sequence]:
        for one in recordings:
            try:
                frames = preprocessed(one, process, skeleton, data_set.persons, history)
            except LeftOutError as reason:
                history.leave_out(str(reason), one.name)
                continue
            yield Sequence(one.name, frames, one.label, one.subject, one.camera, one.setup)

    return write_sequences(sequences(), data_set, preprocessing, "metres", history, out)


def write_sequences(
    sequences: Iterable[Sequence], data_set: DataSet, preprocessing: str, units: str, history: History, out: Path | str
) -> Store:
    """Writes sequences as they are; see `write_recordings`.

    Args:
        sequences: in the order of the store; read as they are needed.
        data_set: what they share.
        preprocessing: the name of what has been done to them.
        units: of the coordinates.
        history: of reading, complete when the last sequence is read.
        out: the store's folder.

    Raises:
        StoreError: there is no sequence, they have different shapes, or the disk refuses.
    """
    names: list[str] = []
    numbers: list[tuple[int, ...]] = []
    with StoreWriter(out) as writer:
        for one in sequences:
            writer.add(one.frames)
            names.append(one.name)
            numbers.append((one.label, one.subject, one.camera, one.setup))
        per_sample = dict(zip(PER_SAMPLE, np.array(numbers, np.int64).reshape(-1, len(PER_SAMPLE)).T, strict=True))
        splits = data_set.splits(per_sample, names) if names else {}
        header = Header(
            dataset=data_set.name,
            skeleton=data_set.skeleton,
            preprocessing=preprocessing,
            units=units,
            class_names=data_set.class_names,
            names=names,
            history=history.as_data(),
        )
        return writer.finish(header, per_sample, splits)


def with_bar(items: Iterator[T], total: int, shown: bool) -> Iterator[T]:
    """The items, with a progress bar on the terminal where it is wanted."""
    if not shown:
        return items
    from tqdm import tqdm

    return iter(tqdm(items, total=total, unit="file"))


def preprocessed(
    recording: Recording, process: Preprocessing, skeleton: skeletons.Skeleton, persons: int, history: History
) -> np.ndarray:
    """(T, M, V, 3) frames of a recording as a store holds them.

    Raises:
        LeftOutError: there is nothing in it that could be a sample.
    """

    def note(reason: str) -> None:
        history.repair(reason, recording.name)

    bodies = with_finite_joints(recording.bodies, note)
    if not bodies.joints.any():
        raise LeftOutError("no body")
    return process(bodies, skeleton, persons, note)
