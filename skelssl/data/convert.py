"""Out of a store into the files of other people's code."""

from collections.abc import Callable
from pathlib import Path

from skelssl.data.formats.ctrgcn_npz import write_ctrgcn_npz
from skelssl.data.formats.frame50 import write_frame50
from skelssl.data.formats.pyskl_pkl import write_pyskl_pkl
from skelssl.data.store import Store, StoreError, open_store

WRITERS: dict[str, Callable[[Store, Path], list[Path]]] = {
    "ctrgcn-npz": write_ctrgcn_npz,
    "pyskl-pkl": write_pyskl_pkl,
    "frame50": write_frame50,
}


def convert(kind: str, store: Path | str, out: Path | str) -> list[Path]:
    """Writes a store as another format, every split that it can hold.

    Args:
        kind: one of `WRITERS`.
        store: its folder.
        out: the file of pyskl-pkl, the folder of the others.

    Returns:
        The files written.

    Raises:
        StoreError: no such kind, the samples do not fit into it, or the disk refuses.
    """
    if kind not in WRITERS:
        raise StoreError(f"kind: expected one of {', '.join(WRITERS)}, found {kind!r}")
    try:
        return WRITERS[kind](open_store(store), Path(out))
    except OSError as error:
        raise StoreError(f"{out}: cannot be written: {error}") from error
