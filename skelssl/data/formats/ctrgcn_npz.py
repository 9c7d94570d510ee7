"""CTR-GCN's files such as NTU60_CS.npz (Chen et al., ICCV 2021), which InfoGCN and HD-GCN read as well.

x_train, x_test (N, 300, 2 · 25 · 3) float32, zeros behind the last frame; y_train, y_test (N, classes) one-hot float64.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skelssl import skeletons
from skelssl.data.formats.common import check_persons, identify, protocols, used_frames, whole_file
from skelssl.data.formats.npy import Npz, write_header
from skelssl.data.pipeline import DataSet, Sequence, with_bar, write_sequences
from skelssl.data.recordings import History
from skelssl.data.store import Store, StoreError

SKELETON, PERSONS, FRAMES, CHANNELS = "ntu25", 2, 300, 3
# how file names call a protocol, and the store's splits
PROTOCOLS = {
    "cs": "xsub",
    "csub": "xsub",
    "xsub": "xsub",
    "cv": "xview",
    "xview": "xview",
    "cset": "xset",
    "xset": "xset",
}
FILES = {
    ("ntu60", "xsub"): "NTU60_CS",
    ("ntu60", "xview"): "NTU60_CV",
    ("ntu120", "xsub"): "NTU120_CSub",
    ("ntu120", "xset"): "NTU120_CSet",
}


def prepare_ctrgcn_npz(source: Path, out: Path, *, progress: bool = False) -> Store:
    """Reads a file into a store; the samples' names are lost, they are numbered as CTR-GCN's feeder does.

    Splits: `train` and `test` with the protocol of the file's name, such as `xsub_train`. Sequences get back their
    lengths. Memory is that of a few samples.

    Raises:
        StoreError: an array is missing, damaged, or of another shape; the message names it.
    """
    npz, history = Npz(source), History()
    labels = {part: _labels(npz, f"y_{part}") for part in ("train", "test")}
    classes = {array.shape[1] for array in labels.values()}
    if len(classes) != 1:
        raise StoreError(f"{source}: expected as many classes in y_train and y_test, found {sorted(classes)}")
    for part, array in labels.items():
        _check_points(npz, f"x_{part}", len(array))
    dataset, class_names = identify([], classes.pop(), SKELETON, source.stem)
    prefix = _protocol(source)

    def splits(per_sample: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        parts = np.array([name.partition("_")[0] for name in names])
        return {f"{prefix}{part}": np.flatnonzero(parts == part) for part in labels}

    data_set = DataSet(dataset, SKELETON, class_names, PERSONS, splits)
    sequences = with_bar(_sequences(npz, labels, history), sum(map(len, labels.values())), progress)
    return write_sequences(sequences, data_set, "ctrgcn", "metres", history, out)


def write_ctrgcn_npz(store: Store, out: Path) -> list[Path]:
    """Writes a file of each protocol into the folder `out`, named as CTR-GCN names them.

    Raises:
        StoreError: the samples do not fit: other joints, more persons or frames.
    """
    _check_store(store)
    written = []
    for protocol, (train, test) in protocols(store).items():
        plain = "_".join(part for part in (store.header.dataset, protocol) if part)
        path = out / f"{FILES.get((store.header.dataset, protocol), plain)}.npz"
        with whole_file(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as file:
            for part, samples in (("train", train), ("test", test)):
                _write_points(file, f"x_{part}.npy", store, samples)
                one_hot = np.eye(len(store.header.class_names))[store.labels[samples]]
                with file.open(f"y_{part}.npy", "w", force_zip64=True) as stream:
                    write_header(stream, one_hot.shape, "<f8")
                    stream.write(one_hot.tobytes())
        written.append(path)
    return written


def _protocol(source: Path) -> str:
    found = PROTOCOLS.get(source.stem.lower().rpartition("_")[2])
    return f"{found}_" if found else ""


def _labels(npz: Npz, key: str) -> np.ndarray:
    header = npz.header(key)
    if len(header.shape) != 2 or header.dtype.kind not in "fiu":
        raise StoreError(f"{npz.path}: {key}: expected (N, classes), one-hot, found {header.shape} {header.dtype}")
    one_hot = npz.load(key)
    zeros, ones = ((one_hot == value).sum(axis=1) for value in (0, 1))
    wrong = np.flatnonzero((ones != 1) | (zeros != one_hot.shape[1] - 1))
    if wrong.size:
        raise StoreError(
            f"{npz.path}: {key}: expected a single 1 and zeros in each row, found others in row {wrong[0]}"
        )
    return one_hot


def _check_points(npz: Npz, key: str, samples: int) -> None:
    header, row = npz.header(key), PERSONS * skeletons.get(SKELETON).num_joints * CHANNELS
    if len(header.shape) != 3 or header.shape[2] != row or header.dtype.kind != "f":
        raise StoreError(f"{npz.path}: {key}: expected (N, frames, {row}) floats, found {header.shape} {header.dtype}")
    if header.shape[0] != samples:
        raise StoreError(f"{npz.path}: {key}: expected {samples} samples, as labels, found {header.shape[0]}")


def _sequences(npz: Npz, labels: dict[str, np.ndarray], history: History) -> Iterator[Sequence]:
    for part, one_hot in labels.items():
        for number, row in enumerate(npz.rows(f"x_{part}")):
            name = f"{part}_{number}"
            points = row.reshape(len(row), PERSONS, -1, CHANNELS)
            frames = used_frames(points, f"{npz.path}: x_{part}[{number}]", padded=True)
            if len(frames):
                yield Sequence(name, frames, int(one_hot[number].argmax()))
            else:
                history.leave_out("no body", name)


def _check_store(store: Store) -> None:
    expected = (skeletons.get(SKELETON).num_joints, CHANNELS)
    if store.frames.shape[2:] != expected:
        raise StoreError(
            f"{store.path}: expected {expected[0]} joints and {expected[1]} channels for ctrgcn-npz, "
            f"found {store.frames.shape[2]} and {store.frames.shape[3]}"
        )
    check_persons(store, PERSONS, "ctrgcn-npz")
    longest = int(np.diff(store.offsets).max())
    if longest > FRAMES:
        raise StoreError(f"{store.path}: expected at most {FRAMES} frames for ctrgcn-npz, found {longest}")


def _write_points(file: zipfile.ZipFile, key: str, store: Store, samples: np.ndarray) -> None:
    persons = store.frames.shape[1]
    with file.open(key, "w", force_zip64=True) as stream:
        row = np.zeros((FRAMES, PERSONS, *store.frames.shape[2:]), "<f4")
        write_header(stream, (len(samples), FRAMES, row[0].size), "<f4")
        for sample in samples:
            frames = store.sample(sample)
            row[:] = 0
            row[: len(frames), :persons] = frames
            stream.write(row.tobytes())
