"""UWA3D Multiview Activity II (Rahmani et al., TPAMI 2016) from text files of its skeletons."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skelssl import skeletons
from skelssl.data.archive import Entry, Source
from skelssl.data.pipeline import DataSet, with_bar, write_recordings
from skelssl.data.readers.single_person import bodies_of_person, check_preprocessing, refuse_twins
from skelssl.data.readers.tables import TextError, number_table
from skelssl.data.recordings import History, Recording
from skelssl.data.store import Store, StoreError

SKELETON = "uwa3d15"
ACTIONS = (
    "one hand waving",
    "one hand punching",
    "two hand waving",
    "two hand punching",
    "sitting down",
    "standing up",
    "vibrating",
    "falling down",
    "holding chest",
    "holding head",
    "holding back",
    "walking",
    "irregular walking",
    "lying down",
    "turning around",
    "drinking",
    "phone answering",
    "bending",
    "jumping jack",
    "running",
    "picking up",
    "putting down",
    "kicking",
    "jumping",
    "dancing",
    "mopping floor",
    "sneezing",
    "sitting down (chair)",
    "squatting",
    "coughing",
)
VIEWS = (1, 2, 3, 4)  # front, left, right, top
NAME = re.compile(r"a([0-9]{2})_s([0-9]{2})_e([0-9]{2})_v([0-9]{2})\.txt")
FARTHEST = 50.0  # metres; a depth sensor sees some, so that larger coordinates are millimetres


def prepare_uwa3d(
    source: Path | str, out: Path | str, preprocessing: str = "yaw-aligned", *, progress: bool = False
) -> Store:
    """Reads one text file for each sequence and writes a store with the 12 cross-view splits.

    Splits: `view1` to `view4`; for every pair of views a training split and a test split for each of the other two,
    such as `v12_v3_train` (views 1 and 2) and `v12_v3_test` (view 3). Coordinates in millimetres become metres. Damaged
    files are left out; the store's history names them.

    Args:
        source: a folder of files such as a01_s01_e00_v01.txt, with the 45 coordinates of a frame on each line, or a tar
            or zip archive of them.
        out: the store's folder.
        preprocessing: "raw", "centred", "yaw-aligned" or "yaw-scaled"; joints that the tracker lost are interpolated
            except in "raw".
        progress: show a bar.

    Raises:
        StoreError: there is no sequence of one of the views, or a sequence occurs twice.
    """
    check_preprocessing(preprocessing)
    files, history = Source(source), History()
    entries = _entries(files, history)
    recordings = _recordings(files, with_bar(iter(entries), len(entries), progress), preprocessing, history)
    data_set = DataSet("uwa3d", SKELETON, list(ACTIONS), 1, lambda per_sample, names: splits(per_sample["cameras"]))
    return write_recordings(recordings, data_set, preprocessing, history, out)


def splits(views: np.ndarray) -> dict[str, np.ndarray]:
    """The official cross-view splits of samples from their views (S): train on two, test on one of the others."""
    found = {f"view{view}": np.flatnonzero(views == view) for view in VIEWS}
    for one, other in itertools.combinations(VIEWS, 2):
        for test in sorted({*VIEWS} - {one, other}):
            name = f"v{one}{other}_v{test}"
            found[f"{name}_train"] = np.flatnonzero(np.isin(views, [one, other]))
            found[f"{name}_test"] = found[f"view{test}"]
    return found


def _entries(files: Source, history: History) -> list[Entry]:
    entries = []
    views = set()
    for entry in files.entries(".txt"):
        match = NAME.fullmatch(entry.name)
        if match is None:
            history.leave_out("not a name of the data set", entry.name)
        elif not 1 <= int(match[1]) <= len(ACTIONS) or int(match[4]) not in VIEWS:
            history.leave_out("unknown action or view", entry.name)
        else:
            entries.append(entry)
            views.add(int(match[4]))
    missing = sorted({*VIEWS} - views)
    if missing:
        example = f"a01_s01_e00_v{missing[0]:02}.txt"
        raise StoreError(
            f"{files.path}: expected files such as {example} of every view, found none of view {missing[0]}"
        )
    refuse_twins(files.path, [entry.name for entry in entries])
    return entries


def _recordings(files: Source, entries: Iterator[Entry], preprocessing: str, history: History) -> Iterator[Recording]:
    """One file at a time; damaged ones are left out."""
    joints = skeletons.get(SKELETON).num_joints
    for entry in entries:
        name = entry.name.removesuffix(".txt")
        action, subject, _, view = (int(part[1:]) for part in name.split("_"))
        try:
            table = number_table(files.read(entry).replace(b",", b" "), joints * 3)
        except TextError as error:
            history.leave_out("damaged", f"{name}: {error}")
            continue
        if np.abs(table).max() > FARTHEST:
            history.repair("millimetres, taken to metres", name)
            table /= 1000
        bodies = bodies_of_person(name, table.reshape(-1, 1, joints, 3), preprocessing, history)
        yield Recording(name, bodies, action - 1, subject, view)
