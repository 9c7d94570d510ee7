"""NTU RGB+D 60 and 120 from their raw skeleton files, a folder of them or the zip archive as published."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from skelkern import NtuRecording, parse_ntu_skeleton
from skelssl.data.archive import Entry, Source
from skelssl.data.pipeline import DataSet, with_bar, write_recordings
from skelssl.data.recordings import Bodies, History, Recording
from skelssl.data.store import Store, StoreError

SKELETON, PERSONS = "ntu25", 2
NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})\.skeleton")
SETUPS = {"ntu60": 17, "ntu120": 32}
CLASSES = {"ntu60": 60, "ntu120": 120}
AT_ONCE = 64  # files that are parsed together


@dataclass(frozen=True)
class Sample:
    """A file and the numbers in its name."""

    entry: Entry
    setup: int
    camera: int
    subject: int
    action: int

    @property
    def name(self) -> str:
        return self.entry.name.removesuffix(".skeleton")


@cache
def published() -> dict[str, list[Any]]:
    """`ntu.yaml`: classes, training subjects and broken samples."""
    return dict(yaml.safe_load(Path(__file__).with_name("ntu.yaml").read_text()))


def prepare_ntu(
    kind: str, source: Path | str, out: Path | str, preprocessing: str = "agcn", *, progress: bool = False
) -> Store:
    """Reads raw files and writes a store with the official splits.

    Splits: `xsub_train` and `xsub_test`; for NTU RGB+D 60 `xview_train` and `xview_test`, for 120 `xset_train` and
    `xset_test`. Samples of the published lists of missing or incomplete skeletons are left out, likewise files without
    any body and damaged files; the store's history names them.

    Args:
        kind: "ntu60" or "ntu120".
        source: a folder with `.skeleton` files, in subfolders or not, or a zip or tar archive of them.
        out: the store's folder.
        preprocessing: a name of `skelssl.data.preprocessings`.
        progress: show a bar.

    Raises:
        StoreError: there is no file of that data set, or one occurs twice.
    """
    data_set = DataSet(
        kind,
        SKELETON,
        published()["classes"][: CLASSES[kind]],
        PERSONS,
        lambda per_sample, names: splits(kind, per_sample),
    )
    return prepare_raw(data_set, lambda sample: _why_not(kind, sample), source, out, preprocessing, progress=progress)


def prepare_raw(
    data_set: DataSet,
    why_not: Callable[[Sample], str | None],
    source: Path | str,
    out: Path | str,
    preprocessing: str,
    *,
    progress: bool = False,
) -> Store:
    """Reads raw files of NTU names into the store of a data set.

    Args:
        data_set: which.
        why_not: the reason to leave a sample out, None for one to read.
        source, out, preprocessing, progress: see `prepare_ntu`.

    Raises:
        StoreError: there is no file of that data set, or one occurs twice.
    """
    files, history = Source(source), History()
    samples = _samples(data_set.name, why_not, files, history)
    recordings = with_bar(_recordings(files, samples, history), len(samples), progress)
    return write_recordings(recordings, data_set, preprocessing, history, out)


def splits(kind: str, per_sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The official splits of samples, from their subjects, cameras and setups."""
    subjects = published()["training_subjects_60" if kind == "ntu60" else "training_subjects_120"]
    trains = {"xsub": np.isin(per_sample["subjects"], subjects)}
    if kind == "ntu60":
        trains["xview"] = np.isin(per_sample["cameras"], [2, 3])
    else:
        trains["xset"] = per_sample["setups"] % 2 == 0
    halves = {"train": True, "test": False}
    return {
        f"{name}_{half}": np.flatnonzero(train == is_train)
        for name, train in trains.items()
        for half, is_train in halves.items()
    }


def _why_not(kind: str, sample: Sample) -> str | None:
    if not (1 <= sample.setup <= SETUPS[kind] and 1 <= sample.action <= CLASSES[kind]):
        return f"not of {kind}"
    if sample.name in published()["broken_60"] or sample.name in published()["broken_120"]:
        return "in the published list of missing or incomplete skeletons"
    return None


def _samples(kind: str, why_not: Callable[[Sample], str | None], files: Source, history: History) -> list[Sample]:
    """Files of the data set by name."""
    samples = []
    for entry in files.entries(".skeleton"):
        match = NAME.fullmatch(entry.name)
        if match is None:
            history.leave_out("not a name of the data set", entry.name)
            continue
        setup, camera, subject, _, action = map(int, match.groups())
        sample = Sample(entry, setup, camera, subject, action)
        reason = why_not(sample)
        if reason is None:
            samples.append(sample)
        else:
            history.leave_out(reason, sample.name)
    for one, following in itertools.pairwise(samples):
        if one.name == following.name:
            raise StoreError(f"{files.path}: {one.name} occurs more than once")
    if not samples:
        raise StoreError(f"{files.path}: expected files such as S001C001P001R001A001.skeleton, found none of {kind}")
    return samples


def _recordings(files: Source, samples: list[Sample], history: History) -> Iterator[Recording]:
    """Parsed on all cores, some files at a time; damaged ones are left out."""
    for first in range(0, len(samples), AT_ONCE):
        batch = samples[first : first + AT_ONCE]
        contents = [files.readable(sample.entry) for sample in batch]
        try:
            parsed = parse_ntu_skeleton(contents, coordinates_only=True)
        except ValueError:
            yield from _whole_ones(batch, contents, history)
        else:
            yield from itertools.starmap(_recording, zip(batch, parsed, strict=True))


def _whole_ones(batch: Sequence[Sample], contents: Sequence[Path | bytes], history: History) -> Iterator[Recording]:
    for sample, content in zip(batch, contents, strict=True):
        try:
            yield _recording(sample, parse_ntu_skeleton(content, coordinates_only=True))
        except ValueError as error:
            history.leave_out("damaged", f"{sample.name}: {str(error).partition(', ')[2]}")


def _recording(sample: Sample, parsed: NtuRecording) -> Recording:
    bodies = Bodies(parsed.joints, parsed.frame_offsets, parsed.body_ids)
    return Recording(sample.name, bodies, sample.action - 1, sample.subject, sample.camera, sample.setup)
