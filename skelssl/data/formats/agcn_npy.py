"""Arrays of 2s-AGCN, skeleton-contrast and HiCo, and ST-GCN's raw ones, (N, C, 300, V, M).

`xsub/train_data_joint.npy`, `xsub/train_num_frame.npy`, `xsub/train_label.pkl`, and so on (HiCo's data_gen); the
folder of NTU RGB+D 120's setups is called xsetup. ST-GCN's are called `train_data.npy` and are not normalised.
"""

from pathlib import Path

from skelssl.data.formats.parts import PROTOCOLS, prepare_parts
from skelssl.data.store import Store

JOINTS, RAW, LENGTHS = "_data_joint.npy", "_data.npy", "_num_frame.npy"


def prepare_agcn_npy(source: Path, out: Path, *, progress: bool = False) -> Store:
    """Reads a folder into a store; sequences have the lengths of `_num_frame.npy`.

    Without that file, which 2s-AGCN does not write, only empty frames at the end are left out: 2s-AGCN fills them with
    repetitions, which stay.

    Raises:
        StoreError: see `prepare_parts`.
    """
    folders = [source, *(source / name for name in PROTOCOLS)]
    raw = not any((folder / f"train{JOINTS}").is_file() for folder in folders) and any(
        (folder / f"train{RAW}").is_file() for folder in folders
    )

    def lengths(folder: Path, half: str) -> Path | None:
        path = folder / f"{half}{LENGTHS}"
        return path if path.is_file() else None

    return prepare_parts(source, out, RAW if raw else JOINTS, "raw" if raw else "agcn", lengths, progress)
