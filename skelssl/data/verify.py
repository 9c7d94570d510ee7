"""Checks of a store that is about to be trusted, among them copies of training sequences in a test split."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skelssl.data.store import HEADER, Store, file_hash, open_store

# Published numbers of samples of a data set's splits.
PUBLISHED = {
    "nw-ucla": {"train": 1020, "test": 464, "view1": 516, "view2": 504, "view3": 464, "test_unseen": 369},
    "ntu60": {"xsub_train": 40091, "xsub_test": 16487, "xview_train": 37646, "xview_test": 18932},
    "ntu120": {"xsub_train": 63026, "xsub_test": 50919, "xset_train": 54468, "xset_test": 59477},
    "pku-mmd-1": {"xsub_train": 18841, "xsub_test": 2704},
    "pku-mmd-2": {"xsub_train": 5332, "xsub_test": 1613},
}


@dataclass
class Verification:
    """What `verify` found: `problems` make a store unfit for use, `remarks` belong beside every result."""

    path: Path
    samples: int = 0
    frames: int = 0
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.samples} sequences, {self.frames} frames"]
        lines += [f"problem: {problem}" for problem in self.problems]
        lines += [f"remark: {remark}" for remark in self.remarks]
        return "\n".join([*lines, "not fit for use" if self.problems else "fit for use"])


def verify(path: Path | str) -> Verification:
    """Compares a store with its hashes and the published counts, and looks through its samples and splits.

    Raises:
        StoreError: the folder is no store at all.
    """
    store = open_store(path)
    report = Verification(store.path, len(store), len(store.frames))
    for name, expected in store.header.hashes.items():
        file = store.path / name
        if not file.is_file():
            report.problems.append(f"{name} is missing")
        elif file_hash(file) != expected:
            report.problems.append(f"{name} is not as it was written (its hash differs from {HEADER}'s)")
    _check_published_counts(store, report)
    _check_samples(store, report)
    _check_splits(store, report)
    return report


def sample_hashes(sequences: Iterable[np.ndarray]) -> list[str]:
    """A hash of each sequence's frames: equal where all coordinates are."""
    return [hashlib.sha256(np.ascontiguousarray(sequence).tobytes()).hexdigest() for sequence in sequences]


def copies_between(hashes: list[str], first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """(sample of `first`, sample of `second`) for every sample of `second` that has an equal one in `first`."""
    known = {hashes[sample]: int(sample) for sample in first}
    return [(known[hashes[sample]], int(sample)) for sample in second if hashes[sample] in known]


def _check_published_counts(store: Store, report: Verification) -> None:
    published = PUBLISHED.get(store.header.dataset, {})
    of_one_protocol = len({split.partition("_")[0] for split in store.splits if split in published}) == 1
    for split, expected in published.items():
        found = len(store.splits.get(split, ()))
        if split not in store.splits and of_one_protocol:
            report.remarks.append(f"split {split!r} is not in this store, which is of one protocol")
        elif found != expected:
            report.problems.append(f"split {split!r} has {found} samples, published are {expected}")


def _check_samples(store: Store, report: Verification) -> None:
    broken = [store.header.names[i] for i in range(len(store)) if not np.isfinite(store.sample(i)).all()]
    if broken:
        report.problems.append(f"{len(broken)} samples hold NaN or infinity, the first is {broken[0]}")
    still = [store.header.names[i] for i in range(len(store)) if not store.sample(i).any()]
    if still:
        report.problems.append(f"{len(still)} samples are zero throughout, the first is {still[0]}")
    single = int((np.diff(store.offsets) == 1).sum())
    if single:
        report.remarks.append(f"{single} samples have one frame only")
    for what, found in store.header.history.items():
        if found:
            report.remarks.append(f"{what}: {_shortened(found)}")


def _shortened(found: Any) -> str:
    """Counts in the place of long lists, which the header holds."""
    if isinstance(found, dict):
        return "; ".join(f"{reason}: {_shortened(one)}" for reason, one in found.items())
    if isinstance(found, list) and len(found) > 3:
        return f"{len(found)}, the first is {found[0]}"
    return ", ".join(map(str, found)) if isinstance(found, list) else str(found)


def _check_splits(store: Store, report: Verification) -> None:
    """Official test splits come with a training split of the same name: train and test, xsub_train and xsub_test."""
    hashes = sample_hashes(store.sample(i) for i in range(len(store)))
    for name, test in store.splits.items():
        train = store.splits.get(name.replace("test", "train").removesuffix("_unseen"))
        if train is None or "test" not in name:
            continue
        shared = np.intersect1d(train, test)
        if shared.size:
            report.problems.append(f"{shared.size} samples are in {name!r} and in its training split")
        copies = [pair for pair in copies_between(hashes, train, test) if pair[0] != pair[1]]
        if copies:
            one, other = (store.header.names[i] for i in copies[0])
            report.remarks.append(
                f"{len(copies)} of the {len(test)} sequences of {name!r} are exact copies of training sequences "
                f"(such as {other} of {one}); report results without them as well"
            )
