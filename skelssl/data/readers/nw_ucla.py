"""Northwestern-UCLA Multiview Action 3D from its published JSON files (Wang et al., CVPR 2014)."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skelssl import skeletons
from skelssl.data.archive import Source
from skelssl.data.pipeline import DataSet, write_recordings
from skelssl.data.readers.single_person import bodies_of_person, check_preprocessing, refuse_twins
from skelssl.data.recordings import History, Recording
from skelssl.data.store import Store, StoreError
from skelssl.data.verify import copies_between, sample_hashes

SKELETON = "nw_ucla20"
# Actions 7 and 10 do not exist; labels are the places of the others.
ACTIONS = {
    1: "pick up with one hand",
    2: "pick up with two hands",
    3: "drop trash",
    4: "walk around",
    5: "sit down",
    6: "stand up",
    8: "donning",
    9: "doffing",
    11: "throw",
    12: "carry",
}
VIEWS = {1: 516, 2: 504, 3: 464}  # published number of sequences of each camera
NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)\.json")


@dataclass(frozen=True)
class Sequence:
    """One file: its name's numbers and the skeletons (T, 1, 20, 3) in metres."""

    name: str
    action: int
    subject: int
    view: int
    skeletons: np.ndarray


def prepare_nw_ucla(source: Path | str, out: Path | str, preprocessing: str = "yaw-aligned") -> Store:
    """Reads the published files and writes a store with the official cross-view split.

    Splits: `view1`, `view2`, `view3`; `train` (views 1 and 2) and `test` (view 3), the official ones; `test_unseen`,
    the test sequences whose skeletons are not also in training: in the published files 95 are.

    Args:
        source: a folder of JSON files, or a tar or zip archive of them.
        out: the store's folder.
        preprocessing: "raw", "centred", "yaw-aligned" or "yaw-scaled"; joints that the tracker lost are interpolated
            except in "raw".

    Raises:
        StoreError: a file is damaged or missing; the message names it.
    """
    check_preprocessing(preprocessing)
    sequences = sorted(_sequences(Source(source)), key=lambda sequence: sequence.name)
    _check_counts(Path(source), sequences)
    history = History()
    recordings = [_recording(sequence, preprocessing, history) for sequence in sequences]
    hashes = sample_hashes(sequence.skeletons for sequence in sequences)
    hash_of = {sequence.name: hashed for sequence, hashed in zip(sequences, hashes, strict=True)}

    def splits(per_sample: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        return _splits(per_sample["cameras"], [hash_of[name] for name in names])

    data_set = DataSet("nw-ucla", SKELETON, list(ACTIONS.values()), 1, splits)
    return write_recordings(recordings, data_set, preprocessing, history, out)


def _splits(views: np.ndarray, hashes: list[str]) -> dict[str, np.ndarray]:
    splits = {f"view{view}": np.flatnonzero(views == view) for view in VIEWS}
    splits |= {"train": np.flatnonzero(views != 3), "test": splits["view3"]}
    copies = copies_between(hashes, splits["train"], splits["test"])
    return splits | {"test_unseen": np.setdiff1d(splits["test"], [test for _, test in copies])}


def _recording(sequence: Sequence, preprocessing: str, history: History) -> Recording:
    bodies = bodies_of_person(sequence.name, sequence.skeletons, preprocessing, history)
    return Recording(sequence.name, bodies, list(ACTIONS).index(sequence.action), sequence.subject, sequence.view)


def _check_counts(source: Path, sequences: list[Sequence]) -> None:
    if not sequences:
        raise StoreError(f"{source}: expected files such as a01_s01_e00_v01.json in a folder or archive, found none")
    refuse_twins(source, (sequence.name for sequence in sequences))
    for view, expected in VIEWS.items():
        found = sum(sequence.view == view for sequence in sequences)
        if found != expected:
            raise StoreError(f"{source}: expected {expected} sequences of view {view}, as published, found {found}")


def _sequences(files: Source) -> Iterator[Sequence]:
    for entry in files.entries(".json"):
        match = NAME.fullmatch(entry.name)
        if match is not None:
            action, subject, _, view = map(int, match.groups())
            skeleton = _skeletons(entry.name, action, files.read(entry))
            yield Sequence(entry.name.removesuffix(".json"), action, subject, view, skeleton)


def _skeletons(name: str, action: int, content: bytes) -> np.ndarray:
    """(T, 1, 20, 3) of one file's content."""
    try:
        data: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{name}: expected JSON with 'skeletons' and 'label': {error}") from None
    if not isinstance(data, dict) or not {"skeletons", "label"} <= set(data):
        found = ", ".join(data) if isinstance(data, dict) else type(data).__name__
        raise StoreError(f"{name}: expected JSON with 'skeletons' and 'label', found {found}")
    label = data["label"]
    if action not in ACTIONS:
        raise StoreError(f"{name}: expected an action of {', '.join(map(str, ACTIONS))}, found {action}")
    expected = list(ACTIONS).index(action) + 1
    if label != expected:
        raise StoreError(f"{name}: expected label {expected} for action {action}, found {label}")
    joints = skeletons.get(SKELETON).num_joints
    try:
        skeleton = np.asarray(data["skeletons"], dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise StoreError(f"{name}: expected skeletons of shape (frames, {joints}, 3), found no array") from None
    if skeleton.ndim != 3 or len(skeleton) == 0 or skeleton.shape[1:] != (joints, 3):
        raise StoreError(f"{name}: expected skeletons of shape (frames, {joints}, 3), found {skeleton.shape}")
    if not np.isfinite(skeleton).all():
        raise StoreError(f"{name}: expected finite coordinates, found NaN or infinity")
    return skeleton[:, None]
