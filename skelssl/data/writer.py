"""Writing a store sequence by sequence: memory stays that of one of them, and what looks whole is whole."""

import glob
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from skelssl.data.store import HEADER, PER_SAMPLE, VERSION, Header, Store, StoreError, file_hash, open_store

NPY_HEADER = 128  # bytes of frames.npy before its data: room for any number of frames


class StoreWriter:
    """A store in the making, in a folder beside its place, where it is moved when it is complete.

    Used as a context: what is not finished at its end is removed; what a killed process has left behind, by the next
    writer of the same place.

    Args:
        path: the store's folder.

    Raises:
        StoreError: something that is no store lies at `path`, or the disk refuses; what lay there is unchanged.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._lengths: list[int] = []
        self._shape: tuple[int, ...] = ()
        if self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir()) and not _is_store(self.path)):
            raise StoreError(f"{self.path}: expected nothing or a store to replace, found other files")
        self._draft = self.path.with_name(f"{self.path.name}.partial-{os.getpid()}")
        with _naming(self.path):
            _remove_abandoned(self.path)
            shutil.rmtree(self._draft, ignore_errors=True)
            self._draft.mkdir(parents=True)
            self._frames = (self._draft / "frames.npy").open("wb")
            self._frames.write(bytes(NPY_HEADER))

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._frames.close()
        shutil.rmtree(self._draft, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, sequence: np.ndarray) -> None:
        """Appends a sequence (T, M, V, C); all have the same persons, joints and channels.

        Raises:
            StoreError: it has another shape or no frame, or the disk refuses.
        """
        shape = self._shape or sequence.shape[1:]
        if sequence.ndim != 4 or len(sequence) == 0 or sequence.shape[1:] != shape:
            expected = ", ".join(map(str, shape)) if len(shape) == 3 else "M, V, C"
            raise StoreError(f"sequence {len(self)}: expected (T, {expected}) with T > 0, found {sequence.shape}")
        with _naming(self.path):
            self._frames.write(np.ascontiguousarray(sequence, dtype="<f4").data)
        self._shape = shape
        self._lengths.append(len(sequence))

    def finish(self, header: Header, per_sample: Mapping[str, np.ndarray], splits: Mapping[str, np.ndarray]) -> Store:
        """Writes everything else, moves the store to its place and opens it.

        Args:
            header: version and hashes are filled in.
            per_sample: labels, and what is known of subjects, cameras and setups, (S) each.
            splits: samples by name.

        Raises:
            StoreError: there is no sequence, or the disk refuses; an older store at the place is unchanged.
        """
        if not self._lengths:
            raise StoreError(f"{self.path}: expected at least one sequence, found none")
        unknown = np.full(len(self), -1)
        arrays = {name: np.asarray(per_sample.get(name, unknown), dtype=np.int64) for name in PER_SAMPLE}
        arrays["offsets"] = np.cumsum([0, *self._lengths])
        arrays |= {f"split.{name}": np.asarray(samples, dtype=np.int64) for name, samples in splits.items()}
        with _naming(self.path):
            self._finish_frames()
            for name, array in arrays.items():
                with (self._draft / f"{name}.npy").open("wb") as file:
                    np.save(file, array)
                    os.fsync(file.fileno())
            names = sorted([*arrays, "frames"])
            hashes = {f"{name}.npy": file_hash(self._draft / f"{name}.npy") for name in names}
            with (self._draft / HEADER).open("w") as file:
                json.dump(vars(header) | {"version": VERSION, "hashes": hashes}, file, indent=1)
                os.fsync(file.fileno())
            _put_in_place(self._draft, self.path)
        return open_store(self.path)

    def _finish_frames(self) -> None:
        self._frames.seek(0)
        self._frames.write(_npy_header((sum(self._lengths), *self._shape)))
        self._frames.flush()
        os.fsync(self._frames.fileno())
        self._frames.close()


def write_store(
    path: Path | str,
    header: Header,
    sequences: Iterable[np.ndarray],
    per_sample: Mapping[str, np.ndarray],
    splits: Mapping[str, np.ndarray],
) -> Store:
    """Writes a store of `sequences` (T, M, V, C); see `StoreWriter` and its `finish`."""
    with StoreWriter(path) as writer:
        for sequence in sequences:
            writer.add(sequence)
        return writer.finish(header, per_sample, splits)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns an OSError into a StoreError that names the store."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: the store could not be written: {error}") from error


def _is_store(path: Path) -> bool:
    return (path / HEADER).is_file()


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """Header of a little-endian float32 array in NumPy's format 1.0, NPY_HEADER bytes long."""
    described = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    prefix = b"\x93NUMPY\x01\x00" + (NPY_HEADER - 10).to_bytes(2, "little")
    return prefix + described.ljust(NPY_HEADER - len(prefix) - 1) + b"\n"


def _remove_abandoned(path: Path) -> None:
    """Removes what processes that no longer run have left beside the store."""
    for kind in ("partial", "old"):
        for left in path.parent.glob(f"{glob.escape(path.name)}.{kind}-*"):
            process = left.suffix.rpartition("-")[2]
            if process.isdigit() and not _runs(int(process)):
                if kind == "old" and not path.exists():
                    left.rename(path)  # killed between the two renames
                else:
                    shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _put_in_place(draft: Path, path: Path) -> None:
    """Renames only: at any moment the old store or the complete new one exists."""
    old = path.with_name(f"{path.name}.old-{os.getpid()}")
    if path.exists():
        path.rename(old)
    draft.rename(path)
    shutil.rmtree(old, ignore_errors=True)
