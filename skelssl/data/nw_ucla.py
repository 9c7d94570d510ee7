"""Northwestern-UCLA Multiview Action 3D from its published JSON files (Wang et al., CVPR 2014)."""

import itertools
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skelssl import skeletons
from skelssl.data.preprocess import PREPROCESSINGS, interpolate_lost_joints
from skelssl.data.store import Header, Store, StoreError
from skelssl.data.verify import copies_between, sample_hashes
from skelssl.data.writer import write_store

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
LARGEST_FILE = 8 * 2**20


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
        preprocessing: "raw", "centred" or "yaw-aligned"; joints that the tracker lost are interpolated except in "raw".

    Raises:
        StoreError: a file is damaged or missing; the message names it.
    """
    if preprocessing not in PREPROCESSINGS:
        raise StoreError(f"preprocessing: expected one of {', '.join(PREPROCESSINGS)}, found {preprocessing!r}")
    sequences = sorted(_sequences(Path(source)), key=lambda sequence: sequence.name)
    _check_counts(Path(source), sequences)
    repaired: dict[str, int] = {}
    processed = [_process(sequence, preprocessing, repaired) for sequence in sequences]
    views = np.array([sequence.view for sequence in sequences])
    splits = {f"view{view}": np.flatnonzero(views == view) for view in VIEWS}
    splits |= {"train": np.flatnonzero(views != 3), "test": splits["view3"]}
    hashes = sample_hashes([sequence.skeletons for sequence in sequences])
    copies = copies_between(hashes, splits["train"], splits["test"])
    splits["test_unseen"] = np.setdiff1d(splits["test"], [test for _, test in copies])
    actions = list(ACTIONS)
    per_sample = {
        "labels": np.array([actions.index(sequence.action) for sequence in sequences]),
        "subjects": np.array([sequence.subject for sequence in sequences]),
        "cameras": views,
    }
    header = Header(
        dataset="nw-ucla",
        skeleton=SKELETON,
        preprocessing=preprocessing,
        units="metres",
        class_names=list(ACTIONS.values()),
        names=[sequence.name for sequence in sequences],
        history={"lost joints interpolated": repaired, "copies of training sequences in test": len(copies)},
    )
    return write_store(out, header, processed, per_sample, splits)


def _process(sequence: Sequence, preprocessing: str, repaired: dict[str, int]) -> np.ndarray:
    frames = sequence.skeletons
    if preprocessing != "raw":
        frames, replaced = interpolate_lost_joints(frames)
        if replaced:
            repaired[sequence.name] = replaced
    return PREPROCESSINGS[preprocessing](frames, skeletons.get(SKELETON)).astype(np.float32)


def _check_counts(source: Path, sequences: list[Sequence]) -> None:
    if not sequences:
        raise StoreError(f"{source}: expected files such as a01_s01_e00_v01.json in a folder or archive, found none")
    for one, following in itertools.pairwise(sequences):  # sorted by name
        if one.name == following.name:
            raise StoreError(f"{source}: {one.name} occurs more than once")
    for view, expected in VIEWS.items():
        found = sum(sequence.view == view for sequence in sequences)
        if found != expected:
            raise StoreError(f"{source}: expected {expected} sequences of view {view}, as published, found {found}")


def _sequences(source: Path) -> Iterator[Sequence]:
    for name, content in _files(source):
        match = NAME.fullmatch(name)
        if match is not None:
            action, subject, _, view = map(int, match.groups())
            yield Sequence(name.removesuffix(".json"), action, subject, view, _skeletons(name, action, content))


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of everything in a folder or archive; nothing is unpacked to disk."""
    try:
        if source.is_dir():
            for path in sorted(source.rglob("*.json")):
                yield path.name, path.read_bytes()
        elif zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                for entry in archive.infolist():
                    _refuse_giants(entry.filename, entry.file_size)
                    yield Path(entry.filename).name, archive.read(entry)
        else:
            with tarfile.open(source) as tar:
                for member in tar:
                    _refuse_giants(member.name, member.size)
                    stream = tar.extractfile(member) if member.isfile() else None
                    if stream is not None:
                        yield Path(member.name).name, stream.read()
    except FileNotFoundError:
        raise StoreError(f"{source}: expected a folder or an archive, found nothing") from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise StoreError(f"{source}: expected a folder, a tar or a zip archive: {error}") from None


def _refuse_giants(name: str, size: int) -> None:
    if size > LARGEST_FILE:
        raise StoreError(f"{name}: expected at most {LARGEST_FILE} bytes for one sequence, found {size}")


def _skeletons(name: str, action: int, content: bytes) -> np.ndarray:
    """(T, 1, 20, 3) of one file's content."""
    try:
        data: Any = json.loads(content)
        skeleton = np.asarray(data["skeletons"], dtype=np.float64)
        label = data["label"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{name}: expected JSON with 'skeletons' and 'label': {error!r}") from None
    if action not in ACTIONS:
        raise StoreError(f"{name}: expected an action of {', '.join(map(str, ACTIONS))}, found {action}")
    expected = list(ACTIONS).index(action) + 1
    if label != expected:
        raise StoreError(f"{name}: expected label {expected} for action {action}, found {label}")
    joints = skeletons.get(SKELETON).num_joints
    if skeleton.ndim != 3 or len(skeleton) == 0 or skeleton.shape[1:] != (joints, 3):
        raise StoreError(f"{name}: expected skeletons of shape (frames, {joints}, 3), found {skeleton.shape}")
    if not np.isfinite(skeleton).all():
        raise StoreError(f"{name}: expected finite coordinates, found NaN or infinity")
    return skeleton[:, None]
