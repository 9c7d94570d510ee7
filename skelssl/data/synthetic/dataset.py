"""The generated data set: which recordings there are, its raw files, its store and splits."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skelkern import NtuRecording
from skelssl.data.pipeline import DataSet, with_bar, write_recordings
from skelssl.data.preprocessings import find_preprocessing
from skelssl.data.readers.ntu import PERSONS, Sample, prepare_raw
from skelssl.data.recordings import Bodies, History, Recording
from skelssl.data.store import Store, StoreError
from skelssl.data.synthetic.body import SKELETON
from skelssl.data.synthetic.generate import CLASSES, SUFFIX, TRAINING_OF, Take, recording
from skelssl.data.synthetic.sensor import AZIMUTHS
from skelssl.data.synthetic.text import raw_text, rounded

NAME = "synthetic"
SUBJECTS, REPETITIONS = 24, 2
SUBJECTS_OF_A_SETUP = 3
LARGEST = 999  # three digits in a name


def takes(
    subjects: int, repetitions: int, cameras: Sequence[int] = tuple(AZIMUTHS), actions: Sequence[str] = CLASSES
) -> list[Take]:
    """Every action by every subject, seen by every camera, by name.

    Raises:
        StoreError: there is no such camera or action, or a number does not fit into a file name.
    """
    for what, count in (("subjects", subjects), ("repetitions", repetitions)):
        if not 1 <= count <= LARGEST:
            raise StoreError(f"{what}: expected 1 to {LARGEST}, found {count}")
    for what, chosen, known in (("cameras", cameras, tuple(AZIMUTHS)), ("actions", actions, CLASSES)):
        if not chosen or not set(chosen) <= set(known):
            expected, found = (", ".join(map(str, values)) for values in (known, chosen))
            raise StoreError(f"{what}: expected some of {expected}, found {found or '-'}")
    numbers = itertools.product(range(1, subjects + 1), range(1, repetitions + 1), CLASSES, cameras)
    return sorted(
        Take(1 + (subject - 1) // SUBJECTS_OF_A_SETUP, camera, subject, repetition, CLASSES.index(action) + 1)
        for subject, repetition, action, camera in numbers
        if action in actions
    )


def write_raw(folder: Path | str, chosen: Sequence[Take], seed: int = 0, *, progress: bool = False) -> None:
    """Writes recordings as raw files with NTU names, one after the other.

    Raises:
        StoreError: the seed is negative, something lies in the folder already, or it cannot be written.
    """
    folder = Path(folder)
    _check_seed(seed)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise StoreError(f"{folder}: expected a new or empty folder for raw files, found other files")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for take in with_bar(iter(chosen), len(chosen), progress):
            (folder / f"{take.name}{SUFFIX}").write_bytes(raw_text(recording(seed, take)))
    except OSError as error:
        raise StoreError(f"{folder}: raw files could not be written: {error}") from error


def synthesise_raw(
    raw: Path | str,
    out: Path | str,
    subjects: int = SUBJECTS,
    repetitions: int = REPETITIONS,
    *,
    seed: int = 0,
    preprocessing: str = "agcn",
    progress: bool = False,
) -> Store:
    """Generates raw files, and reads them into a store as recorded ones are read: the whole chain.

    Args:
        raw: a new or empty folder for the files.
        out, subjects, repetitions, seed, preprocessing, progress: see `synthesise`.

    Raises:
        StoreError: an argument is not as expected, something lies in the folder, or the disk refuses.
    """
    find_preprocessing(preprocessing)
    write_raw(raw, takes(subjects, repetitions), seed, progress=progress)
    return prepare_synthetic(raw, out, preprocessing, progress=progress)


def prepare_synthetic(
    source: Path | str, out: Path | str, preprocessing: str = "agcn", *, progress: bool = False
) -> Store:
    """Reads raw files of `write_raw` into a store; arguments and errors are those of `prepare_ntu`."""
    return prepare_raw(_data_set(CLASSES), _why_not, source, out, preprocessing, progress=progress)


def synthesise(
    out: Path | str,
    subjects: int = SUBJECTS,
    repetitions: int = REPETITIONS,
    *,
    cameras: Sequence[int] = tuple(AZIMUTHS),
    actions: Sequence[str] = CLASSES,
    persons: int = PERSONS,
    seed: int = 0,
    preprocessing: str = "agcn",
    progress: bool = False,
) -> Store:
    """Generates recordings straight into a store; it is the one that their raw files become.

    Splits: `xsub_train` and `xsub_test`, every third subject; `xview_train` and `xview_test`, camera 1; of both
    pairs those of which neither half is empty.

    Args:
        out: the store's folder.
        subjects: people of different proportions and habits.
        repetitions: of each action by each subject, once towards the one outer camera, once towards the other.
        cameras: some of 1 (in the middle), 2 and 3.
        actions: some of `CLASSES`, which become the labels in that order.
        persons: of a sample.
        seed: of everything, at least 0.
        preprocessing: a name of `skelssl.data.preprocessings`.
        progress: show a bar.

    Raises:
        StoreError: an argument is not as expected, or the disk refuses.
    """
    _check_seed(seed)
    history, chosen = History(), takes(subjects, repetitions, cameras, actions)
    data_set = _data_set([name for name in CLASSES if name in actions], persons)
    recordings = (_recording(data_set, take, rounded(recording(seed, take))) for take in chosen)
    return write_recordings(with_bar(recordings, len(chosen), progress), data_set, preprocessing, history, out)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise StoreError(f"seed: expected at least 0, found {seed}")


def _data_set(actions: Sequence[str], persons: int = PERSONS) -> DataSet:
    return DataSet(NAME, SKELETON, list(actions), persons, lambda per_sample, names: _splits(per_sample))


def _recording(data_set: DataSet, take: Take, seen: NtuRecording) -> Recording:
    bodies = Bodies(seen.joints[..., :3], seen.frame_offsets, seen.body_ids)
    label = data_set.class_names.index(CLASSES[take.action - 1])
    return Recording(take.name, bodies, label, take.subject, take.camera, take.setup)


def _splits(per_sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tests = {"xsub": per_sample["subjects"] % TRAINING_OF == 0, "xview": per_sample["cameras"] == 1}
    return {
        f"{name}_{half}": np.flatnonzero(test == is_test)
        for name, test in tests.items()
        for half, is_test in (("train", False), ("test", True))
        if 0 < test.sum() < len(test)
    }


def _why_not(sample: Sample) -> str | None:
    known = sample.camera in AZIMUTHS and 1 <= sample.action <= len(CLASSES)
    return None if known else f"not of {NAME}"
