"""The store: every frame of a data set in one memory-mapped array, with an index, labels and a header.

A store is a folder. `frames.npy` (F, M, V, C) float32 holds the sequences one after the other; `offsets.npy` (S + 1)
says where each begins; `labels.npy`, `subjects.npy`, `cameras.npy` and `setups.npy` (S) describe them;
`split.<name>.npy` lists samples; `header.json` holds the rest, with a hash of every array.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 1
HEADER_TYPES: dict[str, type] = {
    **dict.fromkeys(("dataset", "skeleton", "preprocessing", "units"), str),
    **dict.fromkeys(("class_names", "names"), list),
    **dict.fromkeys(("history", "hashes"), dict),
    "version": int,
}
HEADER = "header.json"
PER_SAMPLE = ("labels", "subjects", "cameras", "setups")


class StoreError(ValueError):
    """A store, or what should become one, is not as expected."""


@dataclass
class Header:
    """What a store says about itself; `history` counts and lists what reading the source dropped or repaired."""

    dataset: str
    skeleton: str
    preprocessing: str
    units: str
    class_names: list[str]
    names: list[str]
    history: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass
class Store:
    """A data set: S sequences of skeletons.

    Attributes:
        path: its folder.
        header: names, units, preprocessing, hashes.
        frames: (F, M, V, C) float32, mapped; writing to it changes no file.
        offsets: (S + 1) int64; sample s holds frames offsets[s] to offsets[s + 1].
        labels, subjects, cameras, setups: (S) int64; -1 where the source says nothing.
        splits: samples (int64) of each named part.
    """

    path: Path
    header: Header
    frames: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray
    cameras: np.ndarray
    setups: np.ndarray
    splits: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, index: int) -> np.ndarray:
        """(T, M, V, C) frames of one sample."""
        return self.frames[self.offsets[index] : self.offsets[index + 1]]

    def select(self, split: str) -> np.ndarray:
        """Samples of a split.

        Raises:
            StoreError: there is no such split.
        """
        if split not in self.splits:
            raise StoreError(f"{self.path}: expected a split of {', '.join(sorted(self.splits))}, found {split!r}")
        return self.splits[split]


def open_store(path: Path | str) -> Store:
    """Opens a store without reading its frames.

    Raises:
        StoreError: no store, one of a newer version, or one whose arrays do not fit together.
    """
    path = Path(path)
    header = _read_header(path)
    arrays = {name: _load(path, name) for name in ("frames", "offsets", *PER_SAMPLE)}
    splits = {file.stem.removeprefix("split."): _load(path, file.stem) for file in sorted(path.glob("split.*.npy"))}
    store = Store(path, header, **arrays, splits=splits)
    _check(store)
    return store


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_header(path: Path) -> Header:
    try:
        data = json.loads((path / HEADER).read_text())
    except FileNotFoundError:
        raise StoreError(f"{path}: expected a store, found no {HEADER}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path / HEADER}: cannot be read: {error}") from None
    version = data.get("version") if isinstance(data, dict) else None
    if version != VERSION:
        raise StoreError(f"{path / HEADER}: expected format version {VERSION}, found {version}")
    for key, expected in HEADER_TYPES.items():
        if key not in data:
            raise StoreError(f"{path / HEADER}: expected the key {key!r}, found none")
        if not isinstance(data[key], expected):
            raise StoreError(f"{path / HEADER}: {key}: expected {expected.__name__}, found {type(data[key]).__name__}")
    if unknown := set(data) - set(HEADER_TYPES):
        raise StoreError(f"{path / HEADER}: expected the keys of version {VERSION}, found {min(unknown)!r}")
    if not all(isinstance(name, str) for name in [*data["names"], *data["class_names"], *data["hashes"].values()]):
        raise StoreError(f"{path / HEADER}: expected names and hashes as texts, found others")
    if outside := [name for name in data["hashes"] if Path(name).name != name]:
        raise StoreError(f"{path / HEADER}: hashes: expected files of the store, found {outside[0]!r}")
    return Header(**data)


def _load(path: Path, name: str) -> np.ndarray:
    file = path / f"{name}.npy"
    try:
        return np.load(file, mmap_mode="c" if name == "frames" else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{file}: cannot be read: {error}") from None


def _check(store: Store) -> None:
    samples = len(store.header.names)
    for name in PER_SAMPLE:
        array = getattr(store, name)
        if array.shape != (samples,) or array.dtype != np.int64:
            raise StoreError(f"{store.path / name}.npy: expected ({samples},) int64, found {array.shape} {array.dtype}")
    if store.frames.ndim != 4 or store.frames.dtype != np.float32:
        found = f"{store.frames.shape} {store.frames.dtype}"
        raise StoreError(f"{store.path / 'frames.npy'}: expected (F, M, V, C) float32, found {found}")
    offsets = store.offsets
    ordered = (
        offsets.shape == (samples + 1,)
        and offsets.dtype == np.int64
        and offsets[0] == 0
        and (np.diff(offsets) > 0).all()
    )
    if not ordered or offsets[-1] != len(store.frames):
        raise StoreError(
            f"{store.path / 'offsets.npy'}: expected {samples + 1} rising whole numbers from 0 to {len(store.frames)}"
        )
    classes = len(store.header.class_names)
    if samples and (store.labels.min() < 0 or store.labels.max() >= classes):
        raise StoreError(f"{store.path / 'labels.npy'}: expected labels in [0, {classes})")
    for name, split in store.splits.items():
        if split.ndim != 1 or split.dtype != np.int64:
            raise StoreError(
                f"{store.path}: split {name!r}: expected samples (int64), found {split.shape} {split.dtype}"
            )
        if split.size and (split.min() < 0 or split.max() >= samples):
            raise StoreError(f"{store.path}: split {name!r} names samples outside [0, {samples})")
