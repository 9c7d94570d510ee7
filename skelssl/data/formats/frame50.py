"""The 50-frame arrays of CrosSCLR, AimCLR and PSTL, the files most self-supervised methods share.

`xsub/train_position.npy` (N, 3, 50, 25, 2) float32 with `xsub/train_label.pkl`, (names, labels), or `_label.npy`; the
same for `val` and `xview` (AimCLR's feeder/preprocess_ntu.py).
"""

import pickle
from pathlib import Path

import numpy as np
import torch

from skelkern import resize_times, sample_clips
from skelssl.data.formats.common import NTU_NAME, check_persons, protocols, whole_file
from skelssl.data.formats.npy import write_header
from skelssl.data.formats.parts import HALVES, prepare_parts
from skelssl.data.store import Store

FRAMES, PERSONS = 50, 2
AT_ONCE = 256  # sequences that are resized together


def prepare_frame50(source: Path, out: Path, *, progress: bool = False) -> Store:
    """Reads a folder into a store; any number of frames is read, frame64's as well.

    Raises:
        StoreError: see `prepare_parts`.
    """
    return prepare_parts(source, out, "_position.npy", "aimclr50", None, progress)


def write_frame50(store: Store, out: Path) -> list[Path]:
    """Writes a folder of each protocol into the folder `out`; sequences of other lengths are resized linearly.

    Raises:
        StoreError: there are more than two persons, or no split of training and test samples.
    """
    check_persons(store, PERSONS, "frame50")
    written = []
    for protocol, samples in protocols(store).items():
        folder = out / protocol
        for half, chosen in zip(HALVES, samples, strict=True):
            path = folder / f"{half}_position.npy"
            _write_points(path, store, chosen)
            names = [store.header.names[sample] for sample in chosen]
            endings = [f"{name}.skeleton" if NTU_NAME.fullmatch(name) else name for name in names]
            with whole_file(folder / f"{half}_label.pkl") as file:
                pickle.dump((endings, store.labels[chosen].tolist()), file, protocol=2)
            written.append(path)
    return written


def _write_points(path: Path, store: Store, samples: np.ndarray) -> None:
    _, persons, joints, channels = store.frames.shape
    with whole_file(path) as file:
        write_header(file, (len(samples), channels, FRAMES, joints, PERSONS), "<f4")
        for first in range(0, len(samples), AT_ONCE):
            chosen = samples[first : first + AT_ONCE]
            rows = np.zeros((len(chosen), channels, FRAMES, joints, PERSONS), "<f4")
            rows[..., :persons] = _resized(store, chosen)
            file.write(rows.tobytes())


def _resized(store: Store, samples: np.ndarray) -> np.ndarray:
    """(B, C, 50, V, M)."""
    lengths = torch.from_numpy(np.diff(store.offsets)[samples])
    times = resize_times(torch.zeros(len(samples)), lengths, FRAMES)
    offsets, index = torch.from_numpy(store.offsets), torch.from_numpy(samples)
    return np.asarray(sample_clips(torch.from_numpy(store.frames), offsets, index, times))
