"""PKU-MMD I and II (Liu et al., ACM Multimedia Workshop 2017) from their skeleton, label and split files."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from skelssl import skeletons
from skelssl.data.archive import Entry, Source
from skelssl.data.pipeline import DataSet, with_bar, write_recordings
from skelssl.data.readers.tables import SHOWN, TextError, number_table, plain_lines
from skelssl.data.recordings import Bodies, History, Recording
from skelssl.data.store import Store, StoreError

SKELETON, PERSONS = "ntu25", 2
VIEWS = "LMR"  # left, middle, right: cameras 1, 2, 3
SUFFIXES = (".txt", ".skeleton", ".label")
LABEL = re.compile(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*(?:,\s*[0-9]{1,9}\s*)?")
SPLIT_FILE = re.compile(r"cross[-_ ](subject|view).*\.txt", re.IGNORECASE)
HEAD = 4096  # bytes in which labels have a comma
SPLITS = {"subject": "xsub", "view": "xview"}


@dataclass(frozen=True)
class Release:
    """How a part of the data set names its files."""

    video: re.Pattern[str]
    example: str
    split_files: dict[str, str]


RELEASES = {
    "pku-mmd-1": Release(
        re.compile(r"[0-9]{4}-[LMR]"), "0002-L.txt", {"subject": "cross-subject.txt", "view": "cross-view.txt"}
    ),
    "pku-mmd-2": Release(
        re.compile(r"A[0-9]{2}N[0-9]{2}-[LMR]"),
        "A01N01-L.txt",
        {"subject": "cross_subject_v2.txt", "view": "cross_view_v2.txt"},
    ),
}


@dataclass(frozen=True)
class Label:
    """One line of a label file: the action from 1 and its first and last frame, counted from 1."""

    line: int
    action: int
    start: int
    end: int


@dataclass(frozen=True)
class Video:
    """A long sequence: its skeleton file and the actions in it."""

    name: str
    skeletons: Entry
    labels: list[Label]


@cache
def published() -> dict[str, list[Any]]:
    """`pku_mmd.yaml`: classes."""
    return dict(yaml.safe_load(Path(__file__).with_name("pku_mmd.yaml").read_text()))


def prepare_pku_mmd(
    kind: str, source: Path | str, out: Path | str, preprocessing: str = "agcn", *, progress: bool = False
) -> Store:
    """Cuts the long sequences into the actions of their label files and writes a store with the official splits.

    Samples are named after their video, action and line of the label file, such as 0002-L_a12_0003; cameras 1, 2 and 3
    are left, middle and right. Splits: `xsub_train`, `xsub_test`, `xview_train`, `xview_test`; whatever is not on the
    training list of a split file is for test. A label's frames count from 1 and include the last one, as AimCLR's
    converter has it. Damaged files and labels, and videos without either file, are left out; the store's history
    names them.

    Args:
        kind: "pku-mmd-1" or "pku-mmd-2".
        source: a folder with skeleton, label and split files, in subfolders or not, or a zip or tar archive of them.
        out: the store's folder.
        preprocessing: a name of `skelssl.data.preprocessings`.
        progress: show a bar.

    Raises:
        StoreError: there are no videos of that part, a split file is missing or not one, or a video occurs twice.
    """
    files, history = Source(source), History()
    entries = [entry for suffix in SUFFIXES for entry in files.entries(suffix)]
    videos = _videos(kind, files, entries, history)
    training = _training_videos(kind, files, entries, [video.name for video in videos], history)

    def splits(per_sample: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for split, trained in training.items():
            train = np.array([name.partition("_")[0] in trained for name in names], bool)
            found |= {f"{split}_train": np.flatnonzero(train), f"{split}_test": np.flatnonzero(~train)}
        return found

    data_set = DataSet(kind, SKELETON, published()["classes"], PERSONS, splits)
    recordings = _recordings(files, with_bar(iter(videos), len(videos), progress), history)
    return write_recordings(recordings, data_set, preprocessing, history, out)


def _videos(kind: str, files: Source, entries: Iterable[Entry], history: History) -> list[Video]:
    """Videos with both files, in the order of their skeleton files."""
    skeleton_files: dict[str, Entry] = {}
    label_files: dict[str, Entry] = {}
    for entry in entries:
        name = entry.name.rpartition(".")[0]
        if SPLIT_FILE.fullmatch(entry.name):
            continue
        if RELEASES[kind].video.fullmatch(name) is None:
            history.leave_out(f"not a name of {kind}", entry.name)
            continue
        first_line = files.read(entry, HEAD).lstrip().partition(b"\n")[0]
        if not first_line:
            history.leave_out("empty file", str(entry.place) if isinstance(entry.place, Path) else entry.name)
            continue
        # folders have many names, files only these: labels are known by their commas
        is_label = entry.name.endswith(".label") or b"," in first_line
        known = label_files if is_label else skeleton_files
        if name in known:
            what = "labels" if is_label else "skeletons"
            raise StoreError(f"{files.path}: expected one file with the {what} of {name}, found two")
        known[name] = entry
    if not skeleton_files:
        raise StoreError(f"{files.path}: expected files such as {RELEASES[kind].example}, found none of {kind}")
    for name in label_files.keys() - skeleton_files.keys():
        history.leave_out("no skeleton file", name)
    for name in skeleton_files.keys() - label_files.keys():
        history.leave_out("no label file", name)
    return [
        Video(name, entry, _labels(name, files.read(label_files[name]), history))
        for name, entry in skeleton_files.items()
        if name in label_files
    ]


def _labels(video: str, content: bytes, history: History) -> list[Label]:
    """A label file's lines; those that are none are left out."""
    try:
        lines = plain_lines(content)
    except TextError as error:
        history.leave_out("damaged labels", f"{video}: {error}")
        return []
    labels = []
    for number, line in enumerate(lines, 1):
        match = LABEL.fullmatch(line)
        if match is None:
            if line.strip():
                found = line.strip()[:SHOWN]
                reason = f"expected action,start,end,confidence, found {found!r}"
                history.leave_out("damaged labels", f"{video}, line {number}: {reason}")
            continue
        action, start, end = map(int, match.groups())
        if not 1 <= action <= len(published()["classes"]):
            history.leave_out("unknown action", f"{video}, line {number}: {action}")
        elif start >= end:
            history.leave_out("label that ends before it begins", f"{video}, line {number}: {start} to {end}")
        else:
            labels.append(Label(number, action, start, end))
    return labels


def _training_videos(
    kind: str, files: Source, entries: Iterable[Entry], videos: list[str], history: History
) -> dict[str, set[str]]:
    """Videos on the training lists, by split."""
    found: dict[str, tuple[str, set[str], set[str]]] = {}
    for entry in entries:
        match = SPLIT_FILE.fullmatch(entry.name)
        if match is None:
            continue
        training, test = _split_lists(entry.name, files.read(entry))
        if not all(RELEASES[kind].video.fullmatch(name) for name in training | test):
            continue  # of the other part
        split = match[1].lower()
        if found.get(split, ("", training, test))[1:] != (training, test):
            raise StoreError(f"{files.path}: expected one split file by {split}, found {found[split][0]}, {entry.name}")
        found[split] = entry.name, training, test
    for split, example in RELEASES[kind].split_files.items():
        if split not in found:
            raise StoreError(
                f"{files.path}: expected the split file {example} beside the skeletons, found none that lists "
                f"videos of {kind}; it comes with the data set, in its folder Split"
            )
        file, training, test = found[split]
        for name in sorted(set(videos) - training - test):
            history.repair(f"not listed in {file}, taken for test", name)
    return {SPLITS[split]: training for split, (_, training, _) in found.items()}


def _split_lists(file: str, content: bytes) -> tuple[set[str], set[str]]:
    """Training and validation videos: a line that says which, and a line of names between commas."""
    lists: dict[str, set[str]] = {"training": set(), "valid": set()}
    current: set[str] | None = None
    try:
        lines = plain_lines(content)
    except TextError as error:
        raise StoreError(f"{file}: {error}") from None
    for number, line in enumerate(lines, 1):
        heading = next((heading for heading in lists if line.strip().lower().startswith(heading)), None)
        names = [name.strip() for name in line.split(",") if name.strip()]
        if heading is not None:
            current = lists[heading]
        elif current is None and names:
            raise StoreError(f"{file}, line {number}: expected 'Training videos:', found {line.strip()[:SHOWN]!r}")
        elif current is not None:
            current.update(names)
    training, test = lists.values()
    if not training or not test:
        missing = "test" if training else "training"
        raise StoreError(f"{file}: expected lists of training and validation videos, found no {missing} video")
    if training & test:
        raise StoreError(f"{file}: expected each video in one list, found {min(training & test)} in both")
    return training, test


def _recordings(files: Source, videos: Iterator[Video], history: History) -> Iterator[Recording]:
    """One video at a time; damaged ones are left out."""
    joints = skeletons.get(SKELETON).num_joints
    for video in videos:
        try:
            table = number_table(files.read(video.skeletons), PERSONS * joints * 3)
        except TextError as error:
            history.leave_out("damaged", f"{video.name}: {error}")
            continue
        slots = table.reshape(len(table), PERSONS, joints, 3)
        for label in video.labels:
            if label.start > len(slots):
                reason = f"{video.name}, line {label.line}: frame {label.start} of {len(slots)}"
                history.leave_out("label beyond the end of the video", reason)
                continue
            name = f"{video.name}_a{label.action:02}_{label.line:04}"
            if label.start == 0:
                history.repair("label that begins at frame 0, taken for the first", name)
            if label.end > len(slots):
                history.repair("label that ends after the video, taken to its end", name)
            clip = Bodies.from_slots(slots[max(label.start - 1, 0) : label.end])
            yield Recording(name, clip, label.action - 1, camera=VIEWS.index(video.name[-1]) + 1)
